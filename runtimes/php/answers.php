<?php

// What a handler returned, read as an HTTP answer; what it threw, as an error.

declare(strict_types=1);

namespace Tidegate;

final class Answers
{
    private const TEXT = 'text/plain; charset=utf-8';
    private const BINARY = 'application/octet-stream';
    private const JSON = 'application/json';
    private const JSON_FLAGS = JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE;
    /** Frames and causes that are written at most. */
    private const FRAMES = 50;
    private const CAUSES = 5;

    /** Answers an exchange by a handler's result. */
    public static function send(Exchange $exchange, mixed $result): void
    {
        if (is_array($result) && array_key_exists('statusCode', $result)) {
            $result = self::fromProxy($result);
        }
        if (!$result instanceof Response) {
            $result = new Response($result);
        }
        if ($result->status < 200 || $result->status > 599) {
            throw new \ValueError("status $result->status is not a number from 200 to 599");
        }
        $fields = self::fields($result->headers);
        $body = $result->body;
        if ($body instanceof \Traversable) {
            self::stream($exchange, $result->status, $fields, $body);
        } elseif (is_resource($body)) {
            self::stream($exchange, $result->status, $fields, self::pieces($body));
        } else {
            [$text, $type] = self::read($body);
            $exchange->respond($result->status, self::typed($fields, $type), $text);
        }
    }

    /** @return array{string, ?string} bytes and content type of one returned value */
    private static function read(mixed $value): array
    {
        if ($value === null) {
            return ['', null];
        }
        if (is_string($value)) {
            return [$value, preg_match('//u', $value) ? self::TEXT : self::BINARY];
        }
        $plain = is_scalar($value) || is_array($value);
        if ($plain || $value instanceof \JsonSerializable || $value instanceof \stdClass) {
            return [json_encode($value, self::JSON_FLAGS), self::JSON];
        }
        if ($value instanceof \Stringable) {
            return [(string) $value, self::TEXT];
        }
        throw new \TypeError('handler returned ' . get_debug_type($value) . ', expected null, a string, something JSON can hold, '
            . 'a Generator, a stream, an array with statusCode or Tidegate\Response');
    }

    /** Sends pieces as they come. The head waits for the first: a failure until then is a clean 500. */
    private static function stream(Exchange $exchange, int $status, array $fields, iterable $pieces): void
    {
        foreach ($pieces as $piece) {
            if (!is_string($piece)) {
                throw new \TypeError('a streamed body gave ' . get_debug_type($piece) . ', expected string');
            }
            if (!$exchange->started) {
                $exchange->start($status, self::typed($fields, preg_match('//u', $piece) ? self::TEXT : self::BINARY));
            }
            $exchange->write($piece);
        }
        if (!$exchange->started) {
            $exchange->start($status, $fields);
        }
        $exchange->finish();
    }

    /** @param resource $stream */
    private static function pieces($stream): \Generator
    {
        try {
            while (!feof($stream)) {
                yield (string) fread($stream, 64 * 1024);
            }
        } finally {
            fclose($stream);
        }
    }

    private static function fromProxy(array $result): Response
    {
        $body = $result['body'] ?? null;
        if (!empty($result['isBase64Encoded']) && $body !== null) {
            $body = base64_decode((string) $body, true);
            if ($body === false) {
                throw new \ValueError('the body is not base64, though isBase64Encoded says so');
            }
        }
        $status = filter_var($result['statusCode'], FILTER_VALIDATE_INT);
        if ($status === false) {
            throw new \ValueError('status ' . json_encode($result['statusCode']) . ' is not a number from 200 to 599');
        }
        $headers = $result['headers'] ?? [];
        foreach ($result['multiValueHeaders'] ?? [] as $name => $values) {
            $headers[$name] = [...(array) ($headers[$name] ?? []), ...(array) $values];
        }
        foreach ($result['cookies'] ?? [] as $cookie) {
            $headers['set-cookie'] = [...(array) ($headers['set-cookie'] ?? []), $cookie];
        }
        return new Response($body, $status, $headers);
    }

    /** @return list<array{string, string}> */
    private static function fields(array $headers): array
    {
        $fields = [];
        foreach ($headers as $name => $value) {
            foreach (is_array($value) ? $value : [$value] as $each) {
                $fields[] = [(string) $name, (string) $each];
            }
        }
        return $fields;
    }

    private static function typed(array $fields, ?string $type): array
    {
        foreach ($fields as [$name]) {
            if (strtolower($name) === 'content-type') {
                return $fields;
            }
        }
        return $type === null ? $fields : [...$fields, ['content-type', $type]];
    }

    // === Errors

    /** Answers what a function threw, or breaks the answer off. */
    public static function fail(Exchange $exchange, \Throwable $failure): void
    {
        if ($failure instanceof PeerGone) {
            return;
        }
        if ($failure instanceof BadRequest) {
            self::error($exchange, $failure->getCode(), $failure->getMessage(), 'platform');
        } elseif ($failure instanceof InvalidJson && !$exchange->started) {
            self::error($exchange, 400, $failure->getMessage(), 'application');
        } elseif ($failure instanceof BodyTooLarge && !$exchange->started) {
            self::error($exchange, 413, $failure->getMessage(), 'application');
        } else {
            fwrite(STDERR, self::trace($failure));
            self::error($exchange, 500, 'function failed', 'function');
        }
    }

    /** An error as JSON with the request's id. Once an answer has begun there is no way but to break it off. */
    public static function error(Exchange $exchange, int $status, string $message, string $outcome): void
    {
        if ($exchange->started) {
            return;
        }
        $flags = JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES;
        $body = (string) json_encode(['error' => $message, 'requestId' => $exchange->head->requestId], $flags);
        try {
            $exchange->respond($status, [['content-type', self::JSON]], $body, $outcome);
        } catch (PeerGone) {
            // It did not wait for it.
        }
    }

    /** The trace as text, without the host's own frames. */
    public static function trace(\Throwable $failure): string
    {
        $text = '';
        for ($i = 0; $failure !== null && $i < self::CAUSES; $i++) {
            $text .= ($i === 0 ? '' : 'caused by ') . get_class($failure) . ': ' . $failure->getMessage() . "\n";
            if (!str_starts_with($failure->getFile(), __DIR__ . '/')) {
                $text .= '    at ' . self::place($failure->getFile(), $failure->getLine()) . "\n";
            }
            foreach (array_slice($failure->getTrace(), 0, self::FRAMES) as $frame) {
                $file = $frame['file'] ?? '';
                if ($file !== '' && !str_starts_with($file, __DIR__ . '/')) {
                    $call = ($frame['class'] ?? '') . ($frame['type'] ?? '') . $frame['function'];
                    $text .= '    at ' . self::place($file, $frame['line'] ?? 0) . " calling $call()\n";
                }
            }
            $failure = $failure->getPrevious();
        }
        return $text;
    }

    /** `handler.php:12`, the bundle's own files without its folder. */
    public static function place(string $file, int $line): string
    {
        $folder = dirname((string) getenv('TIDEGATE_ENTRY')) . '/';
        return (str_starts_with($file, $folder) ? substr($file, strlen($folder)) : $file) . ":$line";
    }
}
