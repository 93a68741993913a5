//! Images from a bundle's archive: into the node, and into the engine for the stand-ins.
//!
//! Only what is wanted is taken out of an archive in Docker's format; any other is passed on whole.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use bollard::query_parameters::{CreateImageOptions, ImportImageOptions, InspectContainerOptions};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::provider::ProviderError;

/// Chunks on their way from the archive; more would only fill memory while the node unpacks.
const CHUNKS: usize = 16;
const CHUNK: usize = 1 << 20;

/// Whether the engine has an image.
pub(crate) async fn engine_has(docker: &Docker, image: &str) -> bool {
    docker.inspect_image(image).await.is_ok()
}

/// Brings an image into the engine: from the archive if there is one, else from its registry.
pub(crate) async fn ensure_in_engine(docker: &Docker, image: &str, archive: Option<&Path>) -> Result<(), ProviderError> {
    if engine_has(docker, image).await {
        return Ok(());
    }
    let what = format!("load the image {image}");
    if let Some(archive) = archive {
        let chunks = read_wanted(archive.to_owned(), vec![image.to_owned()]);
        let stream = futures::stream::unfold(chunks, async |mut c| c.recv().await.map(|item| (item, c)));
        let loaded: Vec<_> = docker
            .import_image_stream(ImportImageOptions::default(), stream, None)
            .try_collect()
            .await
            .map_err(ProviderError::docker(&what))?;
        tracing::debug!(?loaded, image, "loaded");
    } else {
        let options = CreateImageOptions { from_image: Some(image.to_owned()), ..Default::default() };
        docker.create_image(Some(options), None, None).try_for_each(async |_| Ok(())).await.map_err(ProviderError::docker(&what))?;
    }
    if engine_has(docker, image).await {
        Ok(())
    } else {
        Err(ProviderError::Command { what, seen: "the archive does not hold it".to_owned() })
    }
}

/// Imports the wanted images of an archive into the node's containerd, as soon as that answers.
pub(crate) async fn import_into_node(docker: &Docker, node: &str, archive: &Path, wanted: Vec<String>) -> Result<(), ProviderError> {
    const WHAT: &str = "load images into the node";
    let script = "until ctr --namespace=k8s.io version >/dev/null 2>&1; do sleep 0.05; done; exec ctr --namespace=k8s.io images import --snapshotter=overlayfs -";
    let config = ExecConfig {
        cmd: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let exec = docker.create_exec(node, config).await.map_err(ProviderError::docker(WHAT))?.id;
    let StartExecResults::Attached { mut output, mut input } = docker.start_exec(&exec, None).await.map_err(ProviderError::docker(WHAT))?
    else {
        return Err(ProviderError::Command { what: WHAT.to_owned(), seen: "the engine did not attach".to_owned() });
    };
    let mut chunks = read_wanted(archive.to_owned(), wanted);
    let send = async {
        while let Some(chunk) = chunks.recv().await {
            input.write_all(&chunk?).await?;
        }
        input.shutdown().await
    };
    let mut said = String::new();
    let listen = async {
        while let Some(Ok(LogOutput::StdErr { message } | LogOutput::StdOut { message })) = output.next().await {
            said.push_str(&String::from_utf8_lossy(&message));
        }
    };
    let (sent, ()) = tokio::join!(send, listen);
    let code = docker.inspect_exec(&exec).await.map_err(ProviderError::docker(WHAT))?.exit_code;
    if code != Some(0) {
        let end: String = said.chars().skip(said.chars().count().saturating_sub(500)).collect();
        return Err(ProviderError::Command { what: WHAT.to_owned(), seen: format!("ctr ended with {code:?}: {}", end.trim()) });
    }
    sent.map_err(ProviderError::io(WHAT))
}

/// Streams an archive reduced to the wanted images, from a thread of its own.
fn read_wanted(archive: PathBuf, wanted: Vec<String>) -> mpsc::Receiver<std::io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut out = Chunks { sender: sender.clone(), buffer: Vec::with_capacity(CHUNK) };
        if let Err(error) = write_wanted(&archive, &wanted, &mut out).and_then(|()| out.flush()) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

struct Chunks {
    sender: mpsc::Sender<std::io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| std::io::Error::other("nobody reads any more"))
    }
}

/// Copies the archive with only the wanted images, where it has Docker's manifest; whole otherwise.
fn write_wanted(archive: &Path, wanted: &[String], out: &mut impl Write) -> std::io::Result<()> {
    let Some((manifest, files)) = manifest_of(archive, wanted)? else {
        std::io::copy(&mut File::open(archive)?, out)?;
        return Ok(());
    };
    let mut target = tar::Builder::new(out);
    let mut source = tar::Archive::new(File::open(archive)?);
    for entry in source.entries_with_seek()? {
        let entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if files.contains(path.as_str()) {
            let mut header = entry.header().clone();
            // A link names its layer by a path that stays the same; its size is none.
            target.append_data(&mut header, &path, entry)?;
        }
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(manifest.len() as u64);
    header.set_mode(0o644);
    target.append_data(&mut header, "manifest.json", manifest.as_slice())?;
    target.finish()
}

/// The manifest reduced to the wanted images, and the files that it names. None when the archive is of
/// another format, or has links (whose targets would have to be followed), or lacks one of the images.
fn manifest_of(archive: &Path, wanted: &[String]) -> std::io::Result<Option<(Vec<u8>, BTreeSet<String>)>> {
    let mut tar = tar::Archive::new(File::open(archive)?);
    let mut manifest = None;
    for entry in tar.entries_with_seek()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if !(entry.header().entry_type().is_file() || entry.header().entry_type().is_dir()) || path == Path::new("index.json") {
            return Ok(None);
        }
        if path == Path::new("manifest.json") {
            let mut text = Vec::new();
            entry.read_to_end(&mut text)?;
            manifest = serde_json::from_slice::<Vec<Value>>(&text).ok();
        }
    }
    let Some(images) = manifest else { return Ok(None) };
    let short = |tag: &str| tag.trim_start_matches("docker.io/").trim_start_matches("library/").to_owned();
    let tags = |image: &Value| image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str).map(short).collect::<Vec<_>>();
    let kept: Vec<Value> = images.into_iter().filter(|image| tags(image).iter().any(|t| wanted.iter().any(|w| short(w) == *t))).collect();
    let found: BTreeSet<String> = kept.iter().flat_map(tags).collect();
    if !wanted.iter().all(|w| found.contains(&short(w))) {
        return Ok(None);
    }
    let files = kept
        .iter()
        .flat_map(|image| {
            image["Layers"].as_array().into_iter().flatten().chain([&image["Config"]]).filter_map(Value::as_str).map(str::to_owned)
        })
        .collect();
    Ok(Some((serde_json::to_vec(&kept)?, files)))
}

/// The image of a container that is there.
pub(crate) async fn image_of(docker: &Docker, container: &str) -> Option<String> {
    docker.inspect_container(container, None::<InspectContainerOptions>).await.ok()?.config?.image
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let mut tar = tar::Builder::new(tempfile::NamedTempFile::new().unwrap());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        let mut tar = tar::Archive::new(bytes);
        tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect()
    }

    const MANIFEST: &str = r#"[{"Config":"a.json","RepoTags":["lab/a:1"],"Layers":["a/layer.tar"]},{"Config":"b.json","RepoTags":["lab/b:1"],"Layers":["b/layer.tar"]}]"#;

    #[test]
    fn only_the_wanted_image_is_copied() {
        let file = archive(&[
            ("a.json", "{}"),
            ("a/layer.tar", "A"),
            ("b.json", "{}"),
            ("b/layer.tar", "B"),
            ("manifest.json", MANIFEST),
            ("repositories", "{}"),
        ]);
        let mut out = Vec::new();
        write_wanted(file.path(), &["docker.io/lab/b:1".to_owned()], &mut out).unwrap();
        assert_eq!(names(&out), ["b.json", "b/layer.tar", "manifest.json"]);
    }

    #[test]
    fn an_archive_of_another_format_or_without_the_image_is_copied_whole() {
        let file = archive(&[("index.json", "{}"), ("manifest.json", MANIFEST)]);
        let mut out = Vec::new();
        write_wanted(file.path(), &["lab/b:1".to_owned()], &mut out).unwrap();
        assert_eq!(names(&out), ["index.json", "manifest.json"]);
        let file = archive(&[("a.json", "{}"), ("manifest.json", MANIFEST)]);
        let mut out = Vec::new();
        write_wanted(file.path(), &["lab/z:1".to_owned()], &mut out).unwrap();
        assert_eq!(names(&out), ["a.json", "manifest.json"]);
    }
}
