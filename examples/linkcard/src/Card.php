<?php

declare(strict_types=1);

namespace Linkcard;

use DOMDocument;
use DOMXPath;

/**
 * What a page says of itself: in the Open Graph words where it has them, then in those for Twitter, then in plain HTML.
 */
final class Card
{
    /** Longest title and description, in characters; a card has no room for more. */
    private const TITLE = 120;
    private const DESCRIPTION = 300;

    private function __construct(private DOMXPath $page, private ?string $base)
    {
    }

    /** Reads a page. `$base`: the address it came from, if known. */
    public static function of(string $html, ?string $base): self
    {
        $document = new DOMDocument();
        $before = libxml_use_internal_errors(true);
        // Pages in the wild are full of mistakes that every browser overlooks; nothing outside of the page is fetched.
        $document->loadHTML(self::ascii($html), LIBXML_NONET | LIBXML_COMPACT);
        libxml_clear_errors();
        libxml_use_internal_errors($before);
        return new self(new DOMXPath($document), $base);
    }

    /** The card's fields; null is what the page does not say. */
    public function fields(): array
    {
        $title = $this->meta('og:title') ?? $this->meta('twitter:title') ?? $this->text('//head/title')
            ?? $this->text('//h1');
        $description = $this->meta('og:description') ?? $this->meta('twitter:description') ?? $this->meta('description');
        $url = $this->meta('og:url') ?? $this->attribute('//link[@rel="canonical"]/@href');
        $image = $this->meta('og:image') ?? $this->meta('twitter:image');
        $icon = $this->attribute('//link[contains(concat(" ", @rel, " "), " icon ")]/@href');
        return [
            'title' => self::cut($title, self::TITLE),
            'description' => self::cut($description, self::DESCRIPTION),
            'url' => $this->absolute($url) ?? $this->base,
            'image' => $this->absolute($image),
            'icon' => $this->absolute($icon),
            'site' => $this->meta('og:site_name'),
            'language' => $this->attribute('/html/@lang'),
        ];
    }

    /**
     * The page with every character beyond ASCII as a reference, because the parser takes what has no charset near its
     * beginning for Latin-1.
     */
    private static function ascii(string $html): string
    {
        if (!mb_check_encoding($html, 'UTF-8')) {
            $html = mb_convert_encoding($html, 'UTF-8', 'Windows-1252');
        }
        return mb_encode_numericentity($html, [0x80, 0x10FFFF, 0, 0x1FFFFF], 'UTF-8');
    }

    private function meta(string $name): ?string
    {
        return $this->attribute("//meta[@property='$name' or @name='$name']/@content");
    }

    private function attribute(string $path): ?string
    {
        return $this->text($path);
    }

    private function text(string $path): ?string
    {
        $found = $this->page->query($path);
        $text = trim(preg_replace('/\s+/u', ' ', $found->item(0)?->nodeValue ?? ''));
        return $text === '' ? null : $text;
    }

    /** A link as a whole address; null where it is none for the web. */
    private function absolute(?string $link): ?string
    {
        if ($link === null) {
            return null;
        }
        if (preg_match('~^https?://[^/\s]~i', $link)) {
            return $link;
        }
        if ($this->base === null || preg_match('~^[a-z][a-z0-9+.-]*:~i', $link)) {
            return null;
        }
        preg_match('~^(https?:)(//[^/?#]+)([^?#]*)~i', $this->base, $base);
        [, $scheme, $host, $path] = $base;
        return match (true) {
            str_starts_with($link, '//') => $scheme . $link,
            str_starts_with($link, '/') => $scheme . $host . $link,
            default => $scheme . $host . (preg_replace('~[^/]*$~', '', $path) ?: '/') . $link,
        };
    }

    private static function cut(?string $text, int $longest): ?string
    {
        return $text === null || mb_strlen($text) <= $longest ? $text : rtrim(mb_substr($text, 0, $longest - 1)) . '…';
    }
}
