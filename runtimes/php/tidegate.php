<?php

// What a function may use of the platform. A handler needs none of it: plain values in and out are enough.

declare(strict_types=1);

namespace Tidegate;

/** The body of the request is not JSON; left to propagate, it answers 400. */
class InvalidJson extends \RuntimeException
{
}

/** The body is over the function's limit; left to propagate, it answers 413. */
class BodyTooLarge extends \RuntimeException
{
}

/** Read-only header fields, looked up without regard to case: `$event->headers['content-type'] ?? ''`. */
final class Headers implements \ArrayAccess, \IteratorAggregate, \Countable
{
    /** @param list<array{string, string}> $fields lower-case name and value in order of arrival */
    public function __construct(private array $fields)
    {
    }

    /** Every value of `name`, in order. @return list<string> */
    public function all(string $name): array
    {
        $name = strtolower($name);
        $values = [];
        foreach ($this->fields as [$key, $value]) {
            if ($key === $name) {
                $values[] = $value;
            }
        }
        return $values;
    }

    /** The value, several joined by a comma; null if there is none. */
    public function get(string $name, ?string $default = null): ?string
    {
        $values = $this->all($name);
        // Cookies are the one list that a comma would damage.
        return $values === [] ? $default : implode(strtolower($name) === 'cookie' ? '; ' : ', ', $values);
    }

    /** @return array<string, string> */
    public function toArray(): array
    {
        $all = [];
        foreach ($this->fields as [$name]) {
            $all[$name] ??= $this->get($name);
        }
        return $all;
    }

    public function offsetExists(mixed $name): bool
    {
        return $this->all((string) $name) !== [];
    }

    public function offsetGet(mixed $name): ?string
    {
        return $this->get((string) $name);
    }

    public function offsetSet(mixed $name, mixed $value): void
    {
        throw new \LogicException('the headers of a request cannot be changed');
    }

    public function offsetUnset(mixed $name): void
    {
        throw new \LogicException('the headers of a request cannot be changed');
    }

    public function getIterator(): \Iterator
    {
        return new \ArrayIterator($this->toArray());
    }

    public function count(): int
    {
        return count($this->toArray());
    }
}

/**
 * One request, as a handler sees it.
 *
 * @property-read string $method
 * @property-read string $path after the function's prefix, escapes decoded; begins with "/"
 * @property-read string $rawPath the same as sent
 * @property-read string $queryString what follows the first "?", as sent
 * @property-read array<string, string> $query of repeated names the last wins
 * @property-read Headers $headers
 * @property-read string $contentType the media type alone, lower case
 * @property-read string $body the whole body, read at first use
 * @property-read string $text the same, as UTF-8
 */
final class Event
{
    private ?string $whole = null;
    private ?Headers $fields = null;

    public function __construct(private Head $head, private Body $source)
    {
    }

    public function __get(string $name): mixed
    {
        return match ($name) {
            'method' => $this->head->method,
            'path' => rawurldecode($this->rawPath),
            'rawPath' => explode('?', $this->head->target, 2)[0] ?: '/',
            'queryString' => explode('?', $this->head->target, 2)[1] ?? '',
            'query' => array_column($this->pairs(), 1, 0),
            'headers' => $this->fields ??= new Headers($this->head->fields),
            'contentType' => strtolower(trim(explode(';', $this->headers['content-type'] ?? '', 2)[0])),
            'body' => $this->whole ??= $this->source->readAll(),
            'text' => $this->text(),
            default => throw new \LogicException("an event has no property \$$name"),
        };
    }

    public function __isset(string $name): bool
    {
        return in_array($name, ['method', 'path', 'rawPath', 'queryString', 'query', 'headers', 'contentType', 'body', 'text'], true);
    }

    /** Every value of the query parameter `name`, in order. @return list<string> */
    public function queryList(string $name): array
    {
        $values = [];
        foreach ($this->pairs() as [$key, $value]) {
            if ($key === $name) {
                $values[] = $value;
            }
        }
        return $values;
    }

    /** The body read as JSON, objects as arrays; throws InvalidJson saying what is wrong. */
    public function json(bool $associative = true): mixed
    {
        if ($this->body === '') {
            throw new InvalidJson('the body is not valid JSON: it is empty');
        }
        try {
            return json_decode($this->body, $associative, 512, JSON_THROW_ON_ERROR);
        } catch (\JsonException $error) {
            throw new InvalidJson('the body is not valid JSON: ' . lcfirst($error->getMessage()));
        }
    }

    /** The body in pieces as it arrives. Use it instead of `body`. @return \Generator<int, string> */
    public function stream(): \Generator
    {
        while (($piece = $this->source->readSome()) !== null) {
            yield $piece;
        }
    }

    private function text(): string
    {
        $charset = 'UTF-8';
        if (preg_match('/;\s*charset=["\']?([^"\';\s]+)/i', $this->headers['content-type'] ?? '', $found)) {
            $charset = strtoupper($found[1]);
        }
        if ($charset !== 'UTF-8') {
            $text = @iconv($charset, 'UTF-8//IGNORE', $this->body);
            if ($text !== false) {
                return $text;
            }
        }
        return preg_match('//u', $this->body) ? $this->body : (string) @iconv('UTF-8', 'UTF-8//IGNORE', $this->body);
    }

    /** @return list<array{string, string}> */
    private function pairs(): array
    {
        $pairs = [];
        foreach (explode('&', $this->queryString) as $pair) {
            if ($pair !== '') {
                [$name, $value] = explode('=', $pair, 2) + [1 => ''];
                $pairs[] = [urldecode($name), urldecode($value)];
            }
        }
        return $pairs;
    }
}

/** Writes to the log: `$context->log->info('text')`. */
final class Logger
{
    /** @param list<mixed> $arguments */
    public function __call(string $level, array $arguments): void
    {
        $text = (string) ($arguments[0] ?? '');
        foreach ((array) ($arguments[1] ?? []) as $name => $value) {
            $text = str_replace('{' . $name . '}', is_scalar($value) ? (string) $value : get_debug_type($value), $text);
        }
        fwrite(STDERR, strtoupper($level) . ' ' . $text . "\n");
    }
}

/** The circumstances of one call. */
final class Context
{
    public readonly Logger $log;

    /** `deadline`: seconds since the epoch, or null. */
    public function __construct(
        public readonly ?string $requestId,
        public readonly ?string $functionName,
        public readonly ?string $namespace,
        public readonly ?string $revision,
        public readonly ?int $memoryLimitBytes,
        public readonly ?float $deadline,
    ) {
        $this->log = new Logger();
    }

    /** Milliseconds until the deadline, never below 0; null without one. */
    public function remainingMs(): ?int
    {
        return $this->deadline === null ? null : max(0, (int) (($this->deadline - microtime(true)) * 1000));
    }
}

/** An answer with a status and header fields of its own. The body is whatever a handler may return alone. */
final class Response
{
    /** @param array<string, string|list<string>> $headers a list as value repeats the field */
    public function __construct(
        public readonly mixed $body = null,
        public readonly int $status = 200,
        public readonly array $headers = [],
    ) {
    }
}
