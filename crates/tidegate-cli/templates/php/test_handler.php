<?php

// php test_handler.php: says nothing where all is well.

declare(strict_types=1);

require __DIR__ . '/handler.php';

function call(string $method, array $query, string $text): array
{
    $log = new class {
        public function info(string $line): void
        {
        }
    };
    return handler((object) compact('method', 'query', 'text'), (object) compact('log'));
}

function expect(mixed $expected, mixed $answer): void
{
    if ($expected !== $answer) {
        fwrite(STDERR, 'expected ' . json_encode($expected) . ', not ' . json_encode($answer) . "\n");
        exit(1);
    }
}

expect(['hello' => 'tide'], call('POST', [], '{"name":"tide"}'));
expect(['hello' => 'gate'], call('GET', ['name' => 'gate'], ''));
expect(['hello' => 'world'], call('GET', [], ''));
expect(400, call('POST', [], '{')['statusCode']);
