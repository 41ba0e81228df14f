<?php

// Before each request of a script: what a script expects of a web server, and what the platform expects of a script.

(static function (): void {
    // A file that is there and no program is what a web server would send by itself.
    $path = rawurldecode(explode('?', $_SERVER['REQUEST_URI'], 2)[0]);
    $file = realpath($_SERVER['DOCUMENT_ROOT'] . $path);
    $entry = (string) getenv('TIDEGATE_ENTRY');
    $public = str_ends_with($_SERVER['DOCUMENT_ROOT'], '/public');
    $inside = $file !== false && str_starts_with($file, $_SERVER['DOCUMENT_ROOT'] . '/');
    if ($public && $inside && is_file($file) && !str_ends_with($file, '.php')) {
        $GLOBALS['tidegate_send_file'] = true;
        return;
    }
    $prefix = $_SERVER['HTTP_X_TIDEGATE_PATH_PREFIX'] ?? '';
    foreach (array_keys($_SERVER) as $name) {
        if (str_starts_with($name, 'HTTP_X_TIDEGATE_')) {
            unset($_SERVER[$name]);
        }
    }
    $_SERVER['SCRIPT_FILENAME'] = $entry;
    // The function is the root of its own site; frameworks that make links ask what is before it.
    $_SERVER['SCRIPT_NAME'] = $_SERVER['PHP_SELF'] = '/' . basename($entry);
    $_SERVER['PATH_INFO'] = $path;
    if ($prefix !== '') {
        $_SERVER['HTTP_X_FORWARDED_PREFIX'] = $prefix;
    }
    if (($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https') {
        $_SERVER['HTTPS'] = 'on';
    }
    $from = $_SERVER['HTTP_X_FORWARDED_FOR'] ?? '';
    if ($from !== '') {
        $_SERVER['REMOTE_ADDR'] = trim(explode(',', $from)[0]);
    }
    chdir(dirname($entry));
    set_include_path(dirname($entry) . PATH_SEPARATOR . get_include_path());

    $fail = static function (string $trace): void {
        file_put_contents('php://stderr', $trace);
        while (ob_get_level() > 0) {
            ob_end_clean();
        }
        if (!headers_sent()) {
            header_remove();
            http_response_code(500);
            header('content-type: application/json');
            header('x-tidegate-outcome: function');
            echo json_encode(['error' => 'function failed', 'requestId' => $_SERVER['HTTP_X_REQUEST_ID'] ?? null]);
        }
    };
    set_exception_handler(static function (Throwable $failure) use ($fail): void {
        $fail(get_class($failure) . ': ' . $failure->getMessage() . "\n    at " . $failure->getFile() . ':'
            . $failure->getLine() . "\n" . $failure->getTraceAsString() . "\n");
    });
    register_shutdown_function(static function () use ($fail): void {
        $error = error_get_last();
        if ($error !== null && ($error['type'] & (E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR)) !== 0) {
            $fail('');
            return;
        }
        if (headers_sent()) {
            return;
        }
        foreach (headers_list() as $line) {
            // What the platform says of a call is not the script's to say.
            $name = strtolower(explode(':', $line, 2)[0]);
            if (str_starts_with($name, 'x-tidegate-') && http_response_code() !== 500) {
                header_remove($name);
            }
        }
        // With its length an answer that breaks off is never taken for a whole one.
        if (ob_get_level() === 1) {
            header('content-length: ' . ob_get_length());
        }
    });
    ob_start();
    require __DIR__ . '/autoload.php';
})();

if (isset($tidegate_send_file)) {
    return false;
}
require getenv('TIDEGATE_ENTRY');
