// Markdown in, HTML out; CommonMark with tables, footnotes and strikethrough.
//
// What is sent is not trusted: HTML in it is shown as text, and links lead to the web, to mail, or to the same site.

import MarkdownIt from "markdown-it";
import footnote from "markdown-it-footnote";

const markdown = new MarkdownIt({ html: false, linkify: true, typographer: false }).use(footnote);

/** Answers `POST` of a text: a fragment, or with `?page` a whole document whose title is the first heading. */
export default async function handle(request) {
  if (request.method !== "POST") {
    return problem(405, "send the Markdown by POST", { Allow: "POST" });
  }
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await request.arrayBuffer());
  } catch {
    return problem(400, "the body is not UTF-8");
  }
  const query = new URL(request.url).searchParams;
  const html = query.has("page") ? page(text) : markdown.render(text);
  return new Response(html, { headers: { "Content-Type": "text/html; charset=utf-8" } });
}

function page(text) {
  // One state for both passes, since footnotes are collected in it.
  const state = {};
  const tokens = markdown.parse(text, state);
  const opening = tokens.findIndex((token) => token.type === "heading_open");
  const title = opening < 0 ? "Untitled" : plain(tokens[opening + 1]);
  const body = markdown.renderer.render(tokens, markdown.options, state);
  const escaped = markdown.utils.escapeHtml(title);
  return `<!doctype html>\n<meta charset="utf-8">\n<title>${escaped}</title>\n${body}`;
}

/** The text of a heading without its markup. */
function plain(inline) {
  const parts = inline.children.map((token) => (token.type === "softbreak" ? " " : token.content));
  return parts.join("").trim();
}

function problem(status, error, headers = {}) {
  return Response.json({ error }, { status, headers });
}
