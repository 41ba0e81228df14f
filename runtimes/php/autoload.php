<?php

// Composer's packages: those in the bundle, else those of the layer. A project whose composer.json names classes of its
// own has them in the bundle, since only there the folders that it names are.

foreach (['/function/vendor/autoload.php', '/layer/vendor/autoload.php'] as $tidegate_file) {
    if (is_file($tidegate_file)) {
        require_once $tidegate_file;
        break;
    }
}
unset($tidegate_file);
