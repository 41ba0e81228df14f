<?php

use Tidegate\Response;

function handler($event, $context)
{
    switch ($event->path) {
        case '/event':
            return ['method' => $event->method, 'rawPath' => $event->rawPath, 'queryString' => $event->queryString,
                'query' => $event->query, 'list' => $event->queryList('a'), 'contentType' => $event->contentType,
                'text' => $event->text, 'header' => $event->headers['X-Thing'], 'all' => $event->headers->all('x-thing'),
                'hidden' => isset($event->headers['x-tidegate-deadline-ms'])];
        case '/context':
            return ['id' => $context->requestId, 'function' => $context->functionName,
                'memory' => $context->memoryLimitBytes, 'left' => $context->remainingMs()];
        case '/none':
            return null;
        case '/text':
            return 'grün';
        case '/bytes':
            return "\xff\x00";
        case '/number':
            return 1.5;
        case '/list':
            return [1, 'a', null, true];
        case '/not-a-number':
            return NAN;
        case '/proxy':
            return ['statusCode' => 201, 'headers' => ['X-One' => '1'], 'multiValueHeaders' => ['x-two' => ['a', 'b']],
                'cookies' => ['c=1'], 'body' => 'aGVsbG8=', 'isBase64Encoded' => true];
        case '/response':
            return new Response(['a' => 1], 404, ['x-tidegate-outcome' => 'ok', 'content-type' => 'text/x']);
        case '/status':
            return new Response('', 99);
        case '/inject':
            return new Response('', 200, ['x-a' => "b\r\nx-c: d"]);
        case '/stream':
            return (static function () {
                yield 'one';
                yield 'two';
            })();
        case '/late':
            return (static function () {
                yield 'one';
                throw new RuntimeException('late');
            })();
        case '/size':
            return (string) array_sum(array_map('strlen', iterator_to_array($event->stream(), false)));
        case '/json':
            return $event->json();
        case '/ignore':
            return 'ignored';
        case '/log':
            echo "to out\n";
            fwrite(STDERR, "to err\n");
            $context->log->info('to log');
            return null;
        case '/object':
            return new Opaque();
        case '/slow':
            usleep(400000);
            return 'slow';
        default:
            throw new InvalidArgumentException('no such path');
    }
}

final class Opaque
{
}
