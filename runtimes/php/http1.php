<?php

// HTTP/1.1 heads and bodies: reading requests, composing responses.
//
// Only the platform's server speaks to a host, yet what it passes on was written by strangers. So everything ambiguous
// about where a message ends is refused: a length beside a transfer coding, repeated lengths, folded lines, a space before
// the colon, bare CR, LF or NUL.

declare(strict_types=1);

namespace Tidegate;

/** A head or body that cannot be served; the code says with what status to answer. */
final class BadRequest extends \RuntimeException
{
    public function __construct(string $message, int $status = 400)
    {
        parent::__construct($message, $status);
    }
}

/** The server closed the connection before the exchange was complete. */
final class PeerGone extends \RuntimeException
{
}

/** A request without its body. */
final class Head
{
    private const TOKEN = "[!#$%&'*+\\-.^_`|\\~0-9A-Za-z]+";

    public string $method = 'GET';
    public string $target = '/';
    public int $minor = 1;
    /** @var list<array{string, string}> */
    public array $fields = [];
    public ?int $length = null;
    public bool $chunked = false;
    public bool $keep = false;
    public bool $expects = false;
    public ?string $requestId = null;
    public ?int $deadlineMs = null;

    /** Reads a head, its empty line left out. */
    public static function parse(string $text): self
    {
        $lines = explode("\r\n", $text);
        $line = array_shift($lines);
        $head = new self();
        if (!preg_match('~^(' . self::TOKEN . ') ([\x21-\xff]+) HTTP/1\.([01])$~D', $line, $found)) {
            if (preg_match('~ HTTP/[0-9.]+$~D', $line) && !preg_match('~ HTTP/1\.[01]$~D', $line)) {
                throw new BadRequest('unsupported protocol version, expected HTTP/1.1', 505);
            }
            throw new BadRequest('malformed request line, expected `METHOD target HTTP/1.1`');
        }
        [, $head->method, $head->target] = $found;
        $head->minor = (int) $found[3];
        $head->keep = $head->minor === 1;
        if ($head->target[0] !== '/') {
            $head->target = self::originForm($head->method, $head->target);
        }
        foreach ($lines as $line) {
            $head->field($line);
        }
        if ($head->chunked && $head->length !== null) {
            throw new BadRequest('both content-length and transfer-encoding are set, expected one');
        }
        if ($head->chunked && $head->minor === 0) {
            throw new BadRequest('transfer-encoding needs HTTP/1.1');
        }
        return $head;
    }

    public static function isName(string $name): bool
    {
        return preg_match('~^' . self::TOKEN . '$~D', $name) === 1;
    }

    private static function originForm(string $method, string $target): string
    {
        if ($target === '*' && $method === 'OPTIONS') {
            return $target;
        }
        if (!preg_match('~^https?://[^/?#]*(.*)$~iD', $target, $found)) {
            throw new BadRequest('malformed request target, expected a path that begins with `/`');
        }
        return str_starts_with($found[1], '/') ? $found[1] : '/' . $found[1];
    }

    private function field(string $line): void
    {
        if (!preg_match('~^(' . self::TOKEN . '):([^\r\n\0]*)$~D', $line, $found)) {
            throw new BadRequest('malformed header field, expected `name: value` on each line');
        }
        $name = strtolower($found[1]);
        $value = trim($found[2], " \t");
        if (!preg_match('//u', $value)) {
            // Text that everything else can work with: UTF-8 where it is, Latin-1 otherwise.
            $value = (string) iconv('ISO-8859-1', 'UTF-8', $value);
        }
        switch ($name) {
            case 'content-length':
                if ($this->length !== null) {
                    throw new BadRequest('content-length is set twice');
                }
                if (!preg_match('/^[0-9]{1,18}$/D', $value)) {
                    throw new BadRequest('malformed content-length, expected decimal digits');
                }
                $this->length = (int) $value;
                break;
            case 'transfer-encoding':
                if ($this->chunked) {
                    throw new BadRequest('transfer-encoding is set twice');
                }
                if (strtolower($value) !== 'chunked') {
                    throw new BadRequest('unsupported transfer-encoding, expected `chunked`', 501);
                }
                $this->chunked = true;
                break;
            case 'connection':
                foreach (explode(',', strtolower($value)) as $option) {
                    if (trim($option) === 'close') {
                        $this->keep = false;
                    } elseif (trim($option) === 'keep-alive' && $this->minor === 0) {
                        $this->keep = true;
                    }
                }
                break;
            case 'expect':
                if (strtolower($value) !== '100-continue') {
                    throw new BadRequest('unsupported expectation, expected `100-continue`', 417);
                }
                $this->expects = $this->minor === 1;
                break;
            case 'x-request-id':
                $this->requestId = $value;
                break;
            case 'x-tidegate-deadline-ms':
                $this->deadlineMs = preg_match('/^[0-9]{1,18}$/D', $value) ? (int) $value : null;
                return;
            default:
                if (str_starts_with($name, 'x-tidegate-')) {
                    return;
                }
        }
        $this->fields[] = [$name, $value];
    }
}

/** One connection to the server, between and during requests. */
final class Connection
{
    /** Bytes of a head. The server holds its own clients to less; beyond it somebody is up to something. */
    private const HEAD_MAX = 64 * 1024;
    /** Bytes asked for at once. */
    private const RECV = 64 * 1024;

    public string $buffer = '';

    /** @param resource $stream */
    public function __construct(public $stream)
    {
    }

    /** The next head, or null when the connection ended between requests. */
    public function nextHead(): ?Head
    {
        while (true) {
            while (str_starts_with($this->buffer, "\r\n")) {
                $this->buffer = substr($this->buffer, 2);
            }
            $at = strpos($this->buffer, "\r\n\r\n");
            if (($at === false ? strlen($this->buffer) : $at) > self::HEAD_MAX) {
                throw new BadRequest('the request head is over ' . self::HEAD_MAX . ' bytes', 431);
            }
            if ($at !== false) {
                $text = substr($this->buffer, 0, $at);
                $this->buffer = substr($this->buffer, $at + 4);
                return Head::parse($text);
            }
            if (!$this->fill()) {
                return null;
            }
        }
    }

    /** Takes more into the buffer; false at the end. */
    private function fill(): bool
    {
        $data = @fread($this->stream, self::RECV);
        if ($data === false || $data === '') {
            return false;
        }
        $this->buffer .= $data;
        return true;
    }

    /** Some bytes, at most `size`. */
    public function take(int $size): string
    {
        if ($this->buffer === '' && !$this->fill()) {
            throw new PeerGone('the request ended before its body was complete');
        }
        $data = substr($this->buffer, 0, $size);
        $this->buffer = substr($this->buffer, strlen($data));
        return $data;
    }

    /** A line without its end, at most `max` bytes long. */
    public function line(int $max, string $what): string
    {
        while (true) {
            $at = strpos($this->buffer, "\r\n");
            if (($at === false ? strlen($this->buffer) : $at) > $max) {
                throw new BadRequest("$what is too long");
            }
            if ($at !== false) {
                $line = substr($this->buffer, 0, $at);
                $this->buffer = substr($this->buffer, $at + 2);
                return $line;
            }
            if (!$this->fill()) {
                throw new PeerGone('the request ended before its body was complete');
            }
        }
    }

    public function write(string $data): void
    {
        for ($sent = 0; $sent < strlen($data); $sent += $count) {
            $count = @fwrite($this->stream, $sent === 0 ? $data : substr($data, $sent));
            if ($count === false || $count === 0) {
                throw new PeerGone('the connection is closed');
            }
        }
    }

    public function close(): void
    {
        @fclose($this->stream);
    }
}

/** The body of one request, read on demand. */
final class Body
{
    /** Bytes of a chunk's size line with its extensions, and of trailers; nobody uses either. */
    private const SIZE_LINE_MAX = 1024;
    private const TRAILERS_MAX = 16 * 1024;
    /** A body that nobody read is thrown away up to so many bytes; beyond it the connection ends. */
    private const SKIP_MAX = 256 * 1024;
    private const PIECE = 64 * 1024;

    private bool $chunked;
    private bool $expects;
    private int $left;
    private int $seen = 0;
    private bool $ended;

    public function __construct(private Connection $connection, Head $head, private int $limit)
    {
        $this->chunked = $head->chunked;
        $this->expects = $head->expects;
        $this->left = $head->chunked ? 0 : $head->length ?? 0;
        $this->ended = !$this->chunked && $this->left === 0;
    }

    /** At least one byte; null at the end. */
    public function readSome(): ?string
    {
        if ($this->ended) {
            return null;
        }
        if ($this->left > $this->limit) {
            throw new BodyTooLarge("the body is over the limit of $this->limit bytes");
        }
        if ($this->expects) {
            $this->expects = false;
            $this->connection->write("HTTP/1.1 100 Continue\r\n\r\n");
        }
        if ($this->chunked && $this->left === 0) {
            $this->nextChunk();
            if ($this->ended) {
                return null;
            }
        }
        $data = $this->connection->take(min(self::PIECE, $this->left));
        $this->left -= strlen($data);
        $this->seen += strlen($data);
        if ($this->seen > $this->limit) {
            throw new BodyTooLarge("the body is over the limit of $this->limit bytes");
        }
        if ($this->left === 0 && !$this->chunked) {
            $this->ended = true;
        } elseif ($this->left === 0 && $this->connection->line(2, 'a chunk') !== '') {
            throw new BadRequest('malformed chunk, expected CRLF after its data');
        }
        return $data;
    }

    public function readAll(): string
    {
        $all = '';
        while (($data = $this->readSome()) !== null) {
            $all .= $data;
        }
        return $all;
    }

    /** Throws away what nobody read; whether the connection can go on. */
    public function skip(): bool
    {
        if ($this->ended) {
            return true;
        }
        if ($this->expects || $this->chunked || $this->left > self::SKIP_MAX) {
            return false;
        }
        try {
            $this->limit = PHP_INT_MAX;
            while ($this->readSome() !== null);
            return true;
        } catch (PeerGone | BadRequest) {
            return false;
        }
    }

    private function nextChunk(): void
    {
        $line = $this->connection->line(self::SIZE_LINE_MAX, "a chunk's size line");
        if (!preg_match('/^([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?$/D', $line, $found)) {
            throw new BadRequest('malformed chunk size, expected hexadecimal digits');
        }
        $this->left = (int) hexdec($found[1]);
        if ($this->left === 0) {
            $seen = 0;
            while (($line = $this->connection->line(self::TRAILERS_MAX - $seen, 'the trailers')) !== '') {
                $seen += strlen($line) + 2;
            }
            $this->ended = true;
        }
    }
}

/** Writes the answer to one request, and knows how far it has come. */
final class Exchange
{
    /** The server's own decisions; a function may not take them for it. */
    private const OURS = ['connection', 'keep-alive', 'transfer-encoding', 'proxy-connection'];

    private const REASONS = [
        200 => 'OK', 201 => 'Created', 202 => 'Accepted', 204 => 'No Content', 206 => 'Partial Content',
        301 => 'Moved Permanently', 302 => 'Found', 303 => 'See Other', 304 => 'Not Modified',
        307 => 'Temporary Redirect', 308 => 'Permanent Redirect', 400 => 'Bad Request', 401 => 'Unauthorized',
        403 => 'Forbidden', 404 => 'Not Found', 405 => 'Method Not Allowed', 409 => 'Conflict', 410 => 'Gone',
        413 => 'Content Too Large', 415 => 'Unsupported Media Type', 422 => 'Unprocessable Content',
        429 => 'Too Many Requests', 431 => 'Request Header Fields Too Large', 500 => 'Internal Server Error',
        501 => 'Not Implemented', 503 => 'Service Unavailable',
    ];

    public bool $started = false;
    private bool $ended = false;
    private bool $keep = false;
    private string $mode = 'none';

    public function __construct(
        private Connection $connection,
        public readonly Head $head,
        private ?Body $body,
    ) {
    }

    /** A whole answer at once. @param list<array{string, string}> $fields */
    public function respond(int $status, array $fields, string $body, ?string $outcome = null): void
    {
        $text = $this->compose($status, $fields, strlen($body), $outcome);
        $this->started = true;
        $this->connection->write($this->mode === 'none' ? $text : $text . $body);
        $this->ended = true;
    }

    /** The head of an answer whose body follows by `write` and `finish`. @param list<array{string, string}> $fields */
    public function start(int $status, array $fields): void
    {
        $text = $this->compose($status, $fields, null, null);
        $this->started = true;
        $this->connection->write($text);
    }

    public function write(string $data): void
    {
        if ($data === '' || $this->mode === 'none') {
            return;
        }
        $this->connection->write($this->mode === 'chunked' ? dechex(strlen($data)) . "\r\n$data\r\n" : $data);
    }

    public function finish(): void
    {
        if ($this->mode === 'chunked') {
            $this->connection->write("0\r\n\r\n");
        }
        $this->ended = true;
    }

    /** Whether the connection can take another request. */
    public function isReusable(): bool
    {
        return $this->ended && $this->keep && $this->body?->skip();
    }

    /** @param list<array{string, string}> $fields */
    private function compose(int $status, array $fields, ?int $length, ?string $outcome): string
    {
        $text = "HTTP/1.1 $status " . (self::REASONS[$status] ?? 'Status') . "\r\n";
        $this->keep = $this->head->keep;
        foreach ($fields as [$name, $value]) {
            $value = (string) $value;
            if (!Head::isName($name)) {
                throw new \ValueError("header name '$name' is not a token of letters, digits and dashes");
            }
            if (strpbrk($value, "\r\n\0") !== false) {
                throw new \ValueError("header $name has a line break or NUL in its value");
            }
            $low = strtolower($name);
            if ($low === 'content-length') {
                // The true length is better knowledge, except where no body shows it.
                if ($this->head->method === 'HEAD' && !$length) {
                    $length = (int) $value;
                }
            } elseif (!in_array($low, self::OURS, true) && !str_starts_with($low, 'x-tidegate-')) {
                $text .= "$name: $value\r\n";
            }
        }
        if ($status === 204 || $status === 304) {
            $this->mode = 'none';
        } elseif ($length !== null) {
            $this->mode = 'length';
            $text .= "content-length: $length\r\n";
        } elseif ($this->head->minor === 1) {
            $this->mode = 'chunked';
            $text .= "transfer-encoding: chunked\r\n";
        } else {
            $this->mode = 'until close';
            $this->keep = false;
        }
        if ($this->head->method === 'HEAD') {
            $this->mode = 'none';
        }
        if ($outcome !== null) {
            $text .= "x-tidegate-outcome: $outcome\r\n";
        }
        if (!$this->keep) {
            $text .= "connection: close\r\n";
        } elseif ($this->head->minor === 0) {
            $text .= "connection: keep-alive\r\n";
        }
        return "$text\r\n";
    }
}
