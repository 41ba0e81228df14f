<?php

declare(strict_types=1);

require_once __DIR__ . '/src/Card.php';

/** A web page in, the card that a chat shows for its link out; `?url=` is where the page was, for its relative links. */
function handler($event, $context)
{
    if ($event->method !== 'POST') {
        return refuse(405, 'send the page by POST', ['Allow' => 'POST']);
    }
    $base = $event->query['url'] ?? null;
    if ($base !== null && !preg_match('~^https?://[^/?#\s]+~i', $base)) {
        return refuse(400, 'url is ' . json_encode(substr($base, 0, 40)) . '; expected http://… or https://…');
    }
    if (trim($event->body) === '') {
        return refuse(400, 'there is no page; send its HTML by POST');
    }
    return Linkcard\Card::of($event->body, $base)->fields();
}

function refuse(int $status, string $error, array $headers = []): array
{
    return [
        'statusCode' => $status,
        'headers' => ['Content-Type' => 'application/json'] + $headers,
        'body' => json_encode(['error' => $error], JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE),
    ];
}
