//! A page for people: the functions of a namespace. Rendered here, without a script.

use std::fmt::Write as _;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{HeaderValue, header};
use tidegate_platform::DEFAULT_NAMESPACE;

use super::answer::{Answer, Params};
use super::functions;
use super::place::{namespace, require_namespace};
use super::status::FunctionStatus;
use crate::{OpenFaas, shown_namespace};

/// Nothing is loaded, nothing runs, nobody frames it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}\
td.n,th.n{text-align:right}nav a{margin-right:1rem}.trouble{color:#a00}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8bf}th,td{border-color:#444}.trouble{color:#f88}}";

/// `/`, as clients and people type it.
pub(super) async fn home() -> Redirect {
    Redirect::temporary("/ui/")
}

/// The functions of a namespace.
pub(super) async fn page(State(openfaas): State<OpenFaas>, params: Params) -> Answer<Response> {
    let platform = openfaas.platform();
    let chosen = namespace(&[params.get("namespace")]);
    require_namespace(platform, &chosen).await?;
    let all = platform.namespaces().await?;
    let all: Vec<_> = all.iter().map(|object| object.key().name()).collect();
    let functions = functions::all(&openfaas, &chosen).await?;
    let mut response = Html(render(&chosen, &all, &functions)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn render(chosen: &str, namespaces: &[&str], functions: &[FunctionStatus]) -> String {
    let mut page = String::new();
    let shown = escape(shown_namespace(chosen));
    let written = write_page(&mut page, &shown, chosen, namespaces, functions);
    debug_assert!(written.is_ok(), "a string takes all that is written");
    page
}

fn write_page(
    page: &mut String,
    shown: &str,
    chosen: &str,
    namespaces: &[&str],
    functions: &[FunctionStatus],
) -> std::fmt::Result {
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{shown}: functions</title>\n<style>{STYLE}</style>\n<h1>Functions in {shown}</h1>\n<nav>"
    )?;
    for namespace in namespaces {
        let name = escape(shown_namespace(namespace));
        if *namespace == chosen {
            write!(page, "<strong>{name}</strong> ")?;
        } else {
            write!(page, "<a href=\"/ui/?namespace={name}\">{name}</a> ")?;
        }
    }
    writeln!(page, "</nav>")?;
    if functions.is_empty() {
        return writeln!(page, "<p>There are none yet.</p>\n</html>");
    }
    writeln!(
        page,
        "<table>\n<tr><th>Function<th>Image<th class=\"n\">Replicas<th class=\"n\">Invocations"
    )?;
    for function in functions {
        let name = escape(&function.name);
        let place = if chosen == DEFAULT_NAMESPACE {
            name.clone()
        } else {
            format!("{name}.{shown}")
        };
        write!(
            page,
            "<tr><td><a href=\"/function/{place}\">{name}</a><td>{}",
            escape(&function.image)
        )?;
        if let Some(trouble) = function.trouble() {
            write!(page, "<div class=\"trouble\">{}</div>", escape(trouble))?;
        }
        writeln!(
            page,
            "<td class=\"n\">{} of {}<td class=\"n\">{}",
            function.available_replicas, function.replicas, function.invocation_count
        )?;
    }
    writeln!(page, "</table>\n</html>")
}

/// Text that is text in HTML, between tags and in a quoted attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_wrote_is_text_and_nothing_else() {
        let function = FunctionStatus {
            name: "f".to_owned(),
            image: "<script>alert('\"&\"')</script>".to_owned(),
            annotations: [("tidegate.dev/message".to_owned(), "<b>no</b>".to_owned())].into(),
            ..FunctionStatus::default()
        };
        let page = render("default", &["default", "dev"], &[function]);
        assert!(
            page.contains("&lt;script&gt;alert(&#39;&quot;&amp;&quot;&#39;)&lt;/script&gt;"),
            "{page}"
        );
        assert!(page.contains("&lt;b&gt;no&lt;/b&gt;") && !page.contains("<script"));
        assert!(page.contains("href=\"/function/f\"") && page.contains("namespace=dev"));
    }
}
