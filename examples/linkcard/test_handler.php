<?php

// Run as `php test_handler.php`; the last line is `N passed, N failed`.

declare(strict_types=1);

require __DIR__ . '/handler.php';

$passed = 0;
$failed = 0;

function call(string $body, array $query = [], string $method = 'POST'): array
{
    return handler((object) ['method' => $method, 'query' => $query, 'body' => $body], null);
}

function check(string $what, mixed $got, mixed $expected): void
{
    global $passed, $failed;
    if ($got === $expected) {
        $passed++;
        return;
    }
    $failed++;
    echo "FAILED $what\n  got      ", var_export($got, true), "\n  expected ", var_export($expected, true), "\n";
}

$sample = file_get_contents(__DIR__ . '/request/page.html');

$card = call($sample, ['url' => 'https://harbour.example/news/2026/index.html']);
check('the title of Open Graph before the plain one', $card['title'], 'Spring tide tonight – 13.4 m');
check('entities and line breaks', $card['description'], 'The quay is closed from 18:00; mind your ropes & boats.');
check('a relative address', $card['image'], 'https://harbour.example/news/2026/quay.jpg');
check('an address from the root', $card['icon'], 'https://harbour.example/icon.svg');
check('the canonical address', $card['url'], 'https://harbour.example/news/spring-tide');
check('the rest', [$card['site'], $card['language']], ['Harbour office', 'en']);

check('without an address, no relative links', call($sample)['image'], null);

$plain = call("<title>Just\n a title</title><p>é", ['url' => 'https://a.example']);
check('a plain page', [$plain['title'], $plain['url'], $plain['description']], ['Just a title', 'https://a.example', null]);
check('the first heading where there is no title', call('<h1>Über</h1>')['title'], 'Über');
check('Latin-1 is read too', call("<title>Caf\xe9</title>")['title'], 'Café');
check('what is no page is an empty card', call('no tags')['title'], null);
check('long titles are cut', mb_strlen(call('<title>' . str_repeat('é', 500) . '</title>')['title']), 120);

$page = '<link rel="shortcut icon" href="%s"><title>x</title>';
$icon = fn (string $href, string $url) => call(sprintf($page, $href), ['url' => $url])['icon'];
check('a scheme that is not the web\'s', $icon('javascript:alert(1)', 'https://a.example/b'), null);
check('another host', $icon('//cdn.example/i.png', 'https://a.example/b'), 'https://cdn.example/i.png');
check('beside a page at the root', $icon('i.png', 'https://a.example'), 'https://a.example/i.png');
check('beside a page with a query', $icon('i.png', 'https://a.example/b/c?d=/e/f'), 'https://a.example/b/i.png');

$secret = tempnam(sys_get_temp_dir(), 'card');
file_put_contents($secret, 'secret');
$entity = '<!DOCTYPE html [<!ENTITY x SYSTEM "file://' . $secret . '">]><title>&x;</title>';
check('files are not read', str_contains((string) call($entity)['title'], 'secret'), false);
unlink($secret);

check('an empty body', call(" \n")['statusCode'], 400);
check('an address that is none', call($sample, ['url' => 'ftp://a'])['statusCode'], 400);
check('another method', call('', [], 'GET')['headers']['Allow'], 'POST');

echo "$passed passed, $failed failed\n";
exit($failed === 0 ? 0 : 1);
