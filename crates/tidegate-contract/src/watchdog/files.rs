//! Mode `static`: the files of a folder, as Go's file server shows them.
//!
//! A file's type, parts and age are `tower-http`'s work. Ours is to find it, and never outside the bundle: a path is
//! resolved with all its links before anything is opened, and a bundle does not change once it lies there.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use tokio::io::AsyncReadExt as _;
use tower_http::services::ServeFile;

use super::{PLAIN, sniff};
use crate::body::{AnswerBody, Body};
use crate::{CallError, CallInfo, head};

/// Entries of a folder that are listed; a page of more is of no use to anybody.
const LISTED: usize = 10_000;

const INDEX: &str = "index.html";

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const NO_SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// What is written otherwise in a link.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What a path leads to.
enum Found {
    File(PathBuf),
    Folder(PathBuf),
    Elsewhere(String),
    Nothing,
}

pub(super) async fn serve(
    bundle: &Path,
    folder: &str,
    request: Request<Body>,
    info: &CallInfo,
) -> Result<Response<AnswerBody>, CallError> {
    let (path, query) = head::after(request.uri(), info.prefix.len);
    let is_head = request.method() == Method::HEAD;
    let answered = match find(bundle, folder, path).await {
        Ok(Found::File(file)) => file_answer(&file, &request).await,
        Ok(Found::Folder(folder)) => list(&folder, is_head).await,
        Ok(Found::Elsewhere(place)) => Ok(redirect(&place, query)),
        Ok(Found::Nothing) => Ok(not_found()),
        Err(error) => Err(error),
    };
    // What cannot be read is not there for those who ask, and whoever runs this learns why.
    Ok(answered.unwrap_or_else(|error| {
        tracing::debug!(%error, path, "a file could not be served");
        not_found()
    }))
}

async fn find(bundle: &Path, folder: &str, path: &str) -> io::Result<Found> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    if decoded.contains('\0') {
        return Ok(Found::Nothing);
    }
    let mut clean: Vec<&str> = Vec::new();
    for part in decoded.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    let is_folder_path = path.is_empty() || decoded.ends_with('/');
    let last = clean.last().copied().unwrap_or_default();
    if last == INDEX && !is_folder_path {
        return Ok(Found::Elsewhere("./".to_owned()));
    }
    let bundle = tokio::fs::canonicalize(bundle).await?;
    let wanted = clean
        .iter()
        .fold(bundle.join(folder), |path, part| path.join(part));
    let Some((place, is_folder)) = inside(&bundle, &wanted).await? else {
        return Ok(Found::Nothing);
    };
    Ok(match (is_folder, is_folder_path) {
        (true, false) => Found::Elsewhere(format!("{}/", link(last))),
        (false, true) => Found::Elsewhere(format!("../{}", link(last))),
        (false, false) => Found::File(place),
        (true, true) => match inside(&bundle, &place.join(INDEX)).await? {
            Some((index, false)) => Found::File(index),
            _ => Found::Folder(place),
        },
    })
}

/// Where a path leads in the end and whether that is a folder, unless it is out of the bundle or nowhere.
async fn inside(bundle: &Path, path: &Path) -> io::Result<Option<(PathBuf, bool)>> {
    let place = match tokio::fs::canonicalize(path).await {
        Ok(place) => place,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !place.starts_with(bundle) {
        return Ok(None);
    }
    let meta = tokio::fs::metadata(&place).await?;
    Ok((meta.is_dir() || meta.is_file()).then(|| (place, meta.is_dir())))
}

async fn file_answer(file: &Path, request: &Request<Body>) -> io::Result<Response<AnswerBody>> {
    // Whatever the method, the answer is the file: to a POST as well, which is what callers of functions send.
    let mut asked = Request::new(());
    if request.method() == Method::HEAD {
        *asked.method_mut() = Method::HEAD;
    }
    *asked.headers_mut() = request.headers().clone();
    let mut response = ServeFile::new(file).try_call(asked).await?;
    let kind = match response.headers().get(CONTENT_TYPE) {
        Some(kind) => full_type(file, kind.as_bytes()).await?,
        None => None,
    };
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    Ok(response.map(|body| AnswerBody::File(body.boxed_unsync())))
}

/// A type with what Go adds to it: the encoding of text, and a guess where the file's name says nothing.
async fn full_type(file: &Path, kind: &[u8]) -> io::Result<Option<HeaderValue>> {
    match kind {
        b"application/octet-stream" => {
            let mut first = Vec::with_capacity(sniff::LOOKED_AT);
            let opened = tokio::fs::File::open(file).await?;
            let mut head = opened.take(sniff::LOOKED_AT as u64);
            head.read_to_end(&mut first).await?;
            Ok(sniff::content_type(&first))
        }
        kind if kind.starts_with(b"text/") && !kind.contains(&b';') => {
            let mut whole = kind.to_vec();
            whole.extend_from_slice(b"; charset=utf-8");
            Ok(HeaderValue::from_bytes(&whole).ok())
        }
        _ => Ok(None),
    }
}

async fn list(folder: &Path, is_head: bool) -> io::Result<Response<AnswerBody>> {
    let mut names = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let mut name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().await?.is_dir() {
            name.push('/');
        }
        names.push(name);
        if names.len() == LISTED {
            break;
        }
    }
    names.sort_unstable();
    let mut page = String::from(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n",
    );
    for name in &names {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "<a href=\"{}\">{}</a>", link(name), shown(name));
    }
    page.push_str("</pre>\n");
    let body = if is_head { String::new() } else { page };
    let mut response = Response::new(AnswerBody::full(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HTML);
    Ok(response)
}

fn link(name: &str) -> String {
    let escaped = utf8_percent_encode(name, ESCAPED);
    // A colon in the first part would make a scheme of it.
    let dot = if name.contains(':') { "./" } else { "" };
    format!("{dot}{escaped}")
}

fn shown(name: &str) -> String {
    name.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

fn redirect(place: &str, query: Option<&str>) -> Response<AnswerBody> {
    let place = match query {
        Some(query) => format!("{place}?{query}"),
        None => place.to_owned(),
    };
    let mut response = super::bare(StatusCode::MOVED_PERMANENTLY);
    match HeaderValue::from_str(&place) {
        Ok(place) => {
            response.headers_mut().insert(LOCATION, place);
            response
        }
        Err(_) => not_found(),
    }
}

fn not_found() -> Response<AnswerBody> {
    let text = bytes::Bytes::from_static(b"404 page not found\n");
    let mut response = Response::new(AnswerBody::full(text));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PLAIN);
    headers.insert(NO_SNIFF, HeaderValue::from_static("nosniff"));
    response
}
