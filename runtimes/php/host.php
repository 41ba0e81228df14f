<?php

// The PHP language host: serves one function over HTTP/1.1 on 127.0.0.1:$PORT.
//
// A function is a handler or a script. A handler (`function handler($event, $context)`, or what the file returns) stays
// loaded, and what it keeps is there at the next call. A script speaks through `header()`, `$_GET` and its output, which
// only a web server's PHP understands: this process becomes PHP's own, with `router.php` before each request.
//
// At a concurrency above one as many processes take requests as there may be at once. Each takes a connection only when it
// has nothing else to do, so it closes it after one answer: a kept one could wait behind a busy process beside an idle one.
//
// What cannot be loaded ends this process with code 1 and one line on standard error that says where and why; that line
// is what a deploy shows.

declare(strict_types=1);

namespace Tidegate;

require __DIR__ . '/http1.php';
require __DIR__ . '/tidegate.php';
require __DIR__ . '/answers.php';
require __DIR__ . '/load.php';

/** Serves connections one after another, forever or until told to end. */
final class Server
{
    /** Connections at most. The server keeps one a worker thread and slot; this only bounds what a fault could cost. */
    private const CONNECTIONS_MAX = 1000;
    /** Connections that may wait to be accepted. */
    private const BACKLOG = 1024;
    /** Processes at most: each holds the whole function in memory. */
    private const WORKERS_MAX = 64;
    /** Seconds between looks for a reason to end, beside those that a signal asks for. */
    private const LOOK = 3600;

    /** @var resource */
    private $listener;
    /** @var array<int, Connection> */
    private array $idle = [];
    private bool $draining = false;
    private ?Exchange $running = null;

    public function __construct(private \Closure $call, private Config $config)
    {
        pcntl_async_signals(true);
        pcntl_signal(SIGTERM, function (): void {
            $this->draining = true;
        }, false);
        register_shutdown_function($this->left(...));
    }

    public function run(int $port): void
    {
        $context = stream_context_create(['socket' => ['backlog' => self::BACKLOG, 'tcp_nodelay' => true]]);
        $listener = stream_socket_server("tcp://127.0.0.1:$port", $code, $error, STREAM_SERVER_BIND | STREAM_SERVER_LISTEN, $context);
        if ($listener === false) {
            throw new \RuntimeException("cannot listen on port $port: $error");
        }
        stream_set_blocking($listener, false);
        $this->listener = $listener;
        $workers = min($this->config->concurrency, self::WORKERS_MAX);
        if ($workers > 1) {
            $this->supervise($workers);
        } else {
            $this->serve(true);
        }
    }

    /** Keeps so many processes alive until told to end. */
    private function supervise(int $count): void
    {
        $workers = [];
        while (!$this->draining) {
            while (count($workers) < $count && !$this->draining) {
                $pid = pcntl_fork();
                if ($pid === 0) {
                    $this->serve(false);
                    exit_now(0);
                }
                if ($pid < 0) {
                    break;
                }
                $workers[$pid] = true;
            }
            $pid = pcntl_wait($status);
            if ($pid > 0) {
                unset($workers[$pid]);
            }
        }
        foreach (array_keys($workers) as $pid) {
            posix_kill($pid, SIGTERM);
        }
        while (pcntl_wait($status) > 0);
    }

    private function serve(bool $keep): void
    {
        while (!$this->draining) {
            $read = [$this->listener, ...array_column($this->idle, 'stream')];
            $write = $except = null;
            if (@stream_select($read, $write, $except, self::LOOK) === false) {
                continue;
            }
            foreach ($read as $stream) {
                if ($stream !== $this->listener) {
                    $connection = $this->idle[(int) $stream];
                    unset($this->idle[(int) $stream]);
                } else {
                    $accepted = @stream_socket_accept($this->listener, 0);
                    if ($accepted === false) {
                        continue;
                    }
                    stream_set_blocking($accepted, true);
                    // What our own buffer does not see must not wait in PHP's.
                    stream_set_read_buffer($accepted, 0);
                    stream_set_timeout($accepted, self::LOOK * 24);
                    $connection = new Connection($accepted);
                    if ($keep) {
                        // Whether anything has come is the next round's question.
                        if (count($this->idle) < self::CONNECTIONS_MAX) {
                            $this->idle[(int) $accepted] = $connection;
                        }
                        continue;
                    }
                }
                if ($this->answer($connection, $keep) && !$this->draining) {
                    $this->idle[(int) $connection->stream] = $connection;
                } else {
                    $connection->close();
                }
            }
        }
    }

    /** Answers what has arrived on a connection; whether it may go on. */
    private function answer(Connection $connection, bool $keep): bool
    {
        try {
            do {
                $head = $connection->nextHead();
                if ($head === null) {
                    return false;
                }
                $head->keep = $head->keep && $keep;
                $body = new Body($connection, $head, $this->config->maxBody);
                $exchange = new Exchange($connection, $head, $body);
                $this->running = $exchange;
                try {
                    $event = new Event($head, $body);
                    Answers::send($exchange, ($this->call)($event, $this->config->context($head)));
                } catch (\Throwable $failure) {
                    Answers::fail($exchange, $failure);
                }
                $this->running = null;
                if (!$exchange->isReusable()) {
                    return false;
                }
            } while ($connection->buffer !== '');
            return true;
        } catch (BadRequest $failure) {
            $exchange = new Exchange($connection, new Head(), null);
            Answers::error($exchange, $failure->getCode(), $failure->getMessage(), 'platform');
            return false;
        } catch (PeerGone) {
            return false;
        }
    }

    /** PHP ends: the handler called `exit`, or met an error that nothing can catch, such as the end of its memory. */
    private function left(): void
    {
        if ($this->running !== null) {
            $error = error_get_last();
            $fatal = $error !== null && ($error['type'] & (E_ERROR | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR)) !== 0;
            if (!$fatal) {
                fwrite(STDERR, "the handler ended the process by exit(); return a value instead\n");
            }
            Answers::error($this->running, 500, 'function failed', 'function');
        }
    }
}

/** Ends without the shutdown functions, which are the parent's. */
function exit_now(int $code): never
{
    posix_kill(getmypid(), SIGKILL);
    exit($code);
}

(static function (): void {
    $config = new Config();
    try {
        $call = Load::load($config);
    } catch (\Throwable $failure) {
        if (!$failure instanceof LoadFailed && !$failure instanceof \ParseError) {
            fwrite(STDERR, Answers::trace($failure));
        }
        fwrite(STDERR, Load::explain($failure, $config) . "\n");
        exit(1);
    }
    if ($call === null) {
        become_script($config);
    }
    (new Server($call, $config))->run($config->port);
})();

/** Becomes PHP's own web server. */
function become_script(Config $config): never
{
    // Quiet as to requests is quiet as to errors too, unless these have a file of their own.
    $settings = ['display_errors=0', 'log_errors=1', 'error_log=/dev/stderr', 'html_errors=0', 'expose_php=0', 'max_execution_time=0',
        'memory_limit=' . ini_get('memory_limit'), 'variables_order=GPCS', 'output_buffering=0',
        'post_max_size=' . $config->maxBody, 'upload_max_filesize=' . $config->maxBody];
    $arguments = ['-q'];
    foreach ($settings as $setting) {
        array_push($arguments, '-d', $setting);
    }
    $root = is_dir(dirname($config->entry) . '/public') ? dirname($config->entry) . '/public' : dirname($config->entry);
    array_push($arguments, '-S', "127.0.0.1:$config->port", '-t', $root, __DIR__ . '/router.php');
    $env = getenv();
    if ($config->concurrency > 1) {
        $env['PHP_CLI_SERVER_WORKERS'] = (string) min($config->concurrency, 64);
    }
    pcntl_exec(PHP_BINARY, $arguments, $env);
    fwrite(STDERR, 'cannot run ' . PHP_BINARY . ': ' . pcntl_strerror(pcntl_get_last_error()) . "\n");
    exit(1);
}
