<?php

// Loading a function: its file, and which kind of callable it offers.

declare(strict_types=1);

namespace Tidegate;

/** The file is fine PHP, but offers nothing that can be called. */
final class LoadFailed extends \RuntimeException
{
}

/** What the platform says about the function. */
final class Config
{
    public readonly string $entry;
    public readonly ?string $handler;
    public readonly int $concurrency;
    public readonly int $maxBody;
    public readonly int $port;

    public function __construct()
    {
        $this->entry = (string) getenv('TIDEGATE_ENTRY');
        $this->handler = getenv('TIDEGATE_HANDLER') ?: null;
        $this->concurrency = max(1, (int) getenv('TIDEGATE_CONCURRENCY'));
        $this->maxBody = (int) (getenv('TIDEGATE_MAX_BODY') ?: 16 << 20);
        $this->port = (int) getenv('PORT');
    }

    public function context(Head $head): Context
    {
        $ms = $head->deadlineMs ?? (getenv('TIDEGATE_TIMEOUT_MS') ?: null);
        return new Context(
            $head->requestId,
            getenv('TIDEGATE_FUNCTION') ?: null,
            getenv('TIDEGATE_NAMESPACE') ?: null,
            getenv('TIDEGATE_REVISION') ?: null,
            ((int) getenv('TIDEGATE_MEMORY')) ?: null,
            $ms === null ? null : microtime(true) + (int) $ms / 1000,
        );
    }
}

final class Load
{
    /** What is called with (event, context); null for a script. */
    public static function load(Config $config): ?\Closure
    {
        chdir(dirname($config->entry));
        $name = $config->handler;
        $file = $config->entry;
        if ($name !== null && preg_match('/^([^:]+):([^:].*)$/D', $name, $found)) {
            $file = dirname($file) . '/' . (str_ends_with($found[1], '.php') ? $found[1] : "$found[1].php");
            $name = $found[2];
        }
        $text = @file_get_contents($file);
        if ($text === false) {
            throw new LoadFailed(Answers::name($file) . ' cannot be read');
        }
        if ($name === null && !self::offersHandler($text)) {
            if (basename($file) === 'handler.php') {
                throw new LoadFailed('handler.php defines no handler; write function handler($event, $context), or call a script index.php');
            }
            return null;
        }
        require __DIR__ . '/autoload.php';
        $before = get_defined_functions()['user'];
        $result = (static fn () => require $file)();
        return self::handler(self::find($name, $result, $file, $before));
    }

    /** Whether the file, which is parsed and not run, defines a handler or returns something. */
    private static function offersHandler(string $text): bool
    {
        $tokens = array_values(array_filter(
            \PhpToken::tokenize($text, TOKEN_PARSE),
            static fn (\PhpToken $token): bool => !$token->isIgnorable(),
        ));
        $depth = 0;
        foreach ($tokens as $at => $token) {
            if ($token->is(['{', T_CURLY_OPEN, T_DOLLAR_OPEN_CURLY_BRACES])) {
                // A namespace may have braces too, and what is in them is still the top.
                $depth++;
            } elseif ($token->is('}')) {
                $depth--;
            } elseif ($token->is(T_FUNCTION) && strtolower(self::name($tokens, $at + 1)) === 'handler' && $depth <= 1) {
                return true;
            } elseif ($token->is(T_CLASS) && strtolower(self::name($tokens, $at + 1)) === 'handler') {
                return true;
            } elseif ($token->is(T_RETURN) && $depth === 0) {
                $next = $tokens[$at + 1] ?? null;
                if ($next?->is([T_FUNCTION, T_FN, T_STATIC, T_NEW, T_STRING, T_NAME_QUALIFIED, T_NAME_FULLY_QUALIFIED, T_VARIABLE])) {
                    return true;
                }
            }
        }
        return false;
    }

    /** @param list<\PhpToken> $tokens */
    private static function name(array $tokens, int $at): string
    {
        $token = $tokens[$at] ?? null;
        return $token?->is('&') || $token?->is(T_AMPERSAND_NOT_FOLLOWED_BY_VAR_OR_VARARG)
            ? self::name($tokens, $at + 1)
            : ($token?->is(T_STRING) ? $token->text : '');
    }

    /** @param list<string> $before */
    private static function find(?string $name, mixed $result, string $file, array $before): callable
    {
        $own = array_values(array_diff(get_defined_functions()['user'], $before));
        if ($name === null) {
            if (is_callable($result)) {
                return $result;
            }
            foreach ($own as $each) {
                if ($each === 'handler' || str_ends_with($each, '\\handler')) {
                    return $each;
                }
            }
            $name = 'Handler';
        }
        foreach ([$name, ...array_filter($own, static fn (string $each): bool => str_ends_with($each, '\\' . strtolower($name)))] as $each) {
            if (is_callable($each)) {
                return $each;
            }
        }
        [$class, $method] = explode('::', $name, 2) + [1 => null];
        $classes = array_filter(get_declared_classes(), static fn (string $each): bool => strcasecmp($each, $class) === 0
            || str_ends_with(strtolower($each), '\\' . strtolower($class)));
        if ($classes !== [] || class_exists($class)) {
            $class = end($classes) ?: $class;
            foreach ($method === null ? ['__invoke', 'handle', 'handler'] : [$method] as $each) {
                if (method_exists($class, $each)) {
                    $static = (new \ReflectionMethod($class, $each))->isStatic();
                    return $static ? [$class, $each] : [new $class(), $each];
                }
            }
            throw new LoadFailed("class $class has no method " . ($method ?? '__invoke, handle or handler'));
        }
        $hint = $own === [] ? '' : '; it has the functions ' . implode(', ', array_slice($own, 0, 8));
        throw new LoadFailed(Answers::name($file) . " has no `$name`, expected function $name(\$event, \$context)$hint");
    }

    private static function handler(callable $found): \Closure
    {
        $call = \Closure::fromCallable($found);
        $needed = (new \ReflectionFunction($call))->getNumberOfRequiredParameters();
        if ($needed > 2) {
            throw new LoadFailed("the handler takes $needed parameters, expected (\$event, \$context), (\$event) or none");
        }
        return $call;
    }

    /** The reason that a function cannot be loaded, as one line: where, what. */
    public static function explain(\Throwable $failure, Config $config): string
    {
        if ($failure instanceof LoadFailed) {
            return $failure->getMessage();
        }
        $file = $failure->getFile();
        $line = $failure->getLine();
        // A file that was only parsed has no name.
        $place = $file === '' || str_starts_with($file, __DIR__ . '/') ? Answers::place($config->entry, $line) : Answers::place($file, $line);
        $what = strtok($failure->getMessage(), "\n");
        $hint = '';
        if ($failure instanceof \Error && preg_match('/^Class ".*" not found$/D', (string) $what)) {
            $hint = '; a package belongs into composer.json';
        }
        return "$place: $what$hint";
    }
}
