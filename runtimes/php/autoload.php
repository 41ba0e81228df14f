<?php

// Composer's packages: those beside the code, or those of the layer.
//
// A layer is made without the code, so what the project's own composer.json says about its own classes leads to folders
// that are not there. It is said again with the bundle's.

(static function (): void {
    foreach (['/function/vendor/autoload.php', '/layer/vendor/autoload.php'] as $file) {
        if (!is_file($file)) {
            continue;
        }
        $loader = require_once $file;
        if ($file[1] === 'f' || !is_object($loader) || !is_file('/function/composer.json')) {
            return;
        }
        $own = json_decode((string) file_get_contents('/function/composer.json'), true)['autoload'] ?? [];
        foreach (['psr-4' => 'addPsr4', 'psr-0' => 'add'] as $kind => $add) {
            foreach ($own[$kind] ?? [] as $prefix => $folders) {
                foreach ((array) $folders as $folder) {
                    $loader->$add($prefix, "/function/$folder");
                }
            }
        }
        foreach ($own['files'] ?? [] as $each) {
            require_once "/function/$each";
        }
        foreach ($own['classmap'] ?? [] as $each) {
            // Files are loaded at once; a folder of classes is what psr-4 is for.
            if (is_file("/function/$each")) {
                require_once "/function/$each";
            }
        }
        return;
    }
})();
