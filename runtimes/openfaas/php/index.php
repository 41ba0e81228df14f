<?php

// One call: standard input is the request's body, standard output the answer's. What goes wrong is told on standard output
// too, as PHP does where nothing is configured.

ini_set('display_errors', '1');
ini_set('log_errors', '0');

// Packages: those that came with the handler, else those that the build installed.
foreach ([__DIR__ . '/function/vendor', __DIR__ . '/vendor', '/layer/vendor'] as $vendor) {
    if (is_file("$vendor/autoload.php")) {
        require "$vendor/autoload.php";
        break;
    }
}

// The handler's own classes and files, as its composer.json has them. Composer's loader is asked first.
['classes' => $classes, 'files' => $files] = require __DIR__ . '/autoload.php';
spl_autoload_register(static function (string $class) use ($classes): void {
    foreach ($classes as [$prefix, $folder]) {
        if (str_starts_with($class, $prefix)) {
            $rest = str_replace('\\', '/', substr($class, strlen($prefix)));
            $file = __DIR__ . "/function/$folder/$rest.php";
            if (is_file($file)) {
                require $file;
                return;
            }
        }
    }
});
foreach ($files as $file) {
    require_once __DIR__ . "/function/$file";
}

echo (new App\Handler())->handle((string) stream_get_contents(STDIN));
