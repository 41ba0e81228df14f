//! Images on their way to the server, and what it says meanwhile.

use std::collections::BTreeMap;

use indicatif::ProgressBar;
use tidegate_document::{Image, PullEvent, PullRequest};

use super::pack::Packed;
use crate::client::{ANSWER, Client, Lines};
use crate::error::{Error, Result};
use crate::progress;

/// Whether the server has an image of this name, and need not ask a registry.
pub(crate) async fn is_here(client: &Client, image: &str) -> Result<bool> {
    let path = format!("/images/{}", encoded(image));
    match client.get::<Image>(&path, &[], ANSWER).await {
        Ok(_) => Ok(true),
        Err(e) if e.status() == Some(404) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Has the server get an image from its registry, with a bar of what has come where one can be drawn.
pub(crate) async fn pull(draw: bool, client: &Client, wanted: &PullRequest) -> Result<Image> {
    let bar = progress::bytes(draw, &format!("pulling {}", wanted.image), 0);
    let followed = async {
        let lines = client.post_lines("/images/-/pull", wanted).await?;
        follow(&bar, lines).await
    };
    let pulled = followed.await;
    bar.finish_and_clear();
    let mut images = pulled?;
    match images.len() {
        1 => Ok(images.remove(0)),
        n => Err(Error::unexpected(format!(
            "the server says that it has pulled {n} images, not one"
        ))),
    }
}

/// Sends an archive, and follows what becomes of it.
pub(super) async fn import(
    draw: bool,
    client: &Client,
    packed: Packed,
    name: Option<&str>,
) -> Result<Vec<Image>> {
    let bar = progress::bytes(draw, "uploading", packed.size);
    let counted = bar.clone();
    let query: Vec<(&str, &str)> = name.map(|name| ("name", name)).into_iter().collect();
    let followed = async {
        let sent = client
            .put_stream("/images/-/import", &query, packed.archive, packed.size, {
                move |n| counted.inc(n)
            })
            .await?;
        bar.set_message("unpacking");
        follow(&bar, sent).await
    };
    let imported = followed.await;
    bar.finish_and_clear();
    imported
}

/// Reads to the line that says how it came out.
async fn follow(bar: &ProgressBar, mut lines: Lines) -> Result<Vec<Image>> {
    let mut layers: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    while let Some(event) = lines.next::<PullEvent>().await? {
        match (event.event.as_str(), event.layer) {
            ("done", _) => return Ok(event.images),
            ("failed", _) => {
                let why = event.error.unwrap_or_default();
                return Err(Error::failed(why));
            }
            ("resolved", _) => bar.set_length(event.size.unwrap_or(0)),
            ("layer", Some(layer)) => {
                let size = event.size.unwrap_or(0);
                layers.entry(layer).or_default().1 = size;
            }
            ("bytes", Some(layer)) => {
                layers.entry(layer).or_default().0 = event.done.unwrap_or(0);
            }
            ("exists" | "unpacking" | "unpacked", Some(layer)) => {
                let (done, size) = layers.entry(layer).or_default();
                *done = (*done).max(*size);
            }
            _ => {}
        }
        bar.set_position(layers.values().map(|(done, _)| done).sum());
    }
    Err(Error::unexpected(
        "the server ended its answer without saying how it came out",
    ))
}

/// A name as a part of a path: slashes and colons stay. Not those of what would lead up a path and is no name of an image.
pub(crate) fn encoded(name: &str) -> String {
    let leads_up = name.split('/').any(|part| matches!(part, "." | ".."));
    name.bytes()
        .map(|b| match b {
            b'/' if leads_up => "%2F".to_owned(),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(b).to_string(),
            b'-' | b'_' | b'.' | b'/' | b':' | b'@' => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn a_name_never_leads_to_another_route() {
        let of = |name: &str| {
            let url = format!("http://a/images/{}", encoded(name));
            reqwest::Url::parse(&url).unwrap().path().to_owned()
        };
        assert_eq!(of("a.b:5000/c:1"), "/images/a.b:5000/c:1");
        assert_eq!(of("../runtimes/python"), "/images/..%2Fruntimes%2Fpython");
        assert_eq!(of("a?b#c"), "/images/a%3Fb%23c");
    }
}
