<?php

declare(strict_types=1);

/** Greets whoever is named. */
function handler($event, $context)
{
    $name = $event->query['name'] ?? null;
    if ($event->method === 'POST') {
        $asked = json_decode($event->text, true);
        if (!is_array($asked)) {
            return [
                'statusCode' => 400,
                'headers' => ['Content-Type' => 'application/json'],
                'body' => json_encode(['error' => 'the body is no JSON object']),
            ];
        }
        $name = $asked['name'] ?? null;
    }
    $context->log->info('greeting ' . ($name ?? 'nobody in particular'));
    return ['hello' => $name ?? 'world'];
}
