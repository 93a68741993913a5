//! kind, helm, istioctl, kubectl: a bundle's, those on the PATH, or a pinned version from the cache.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest, Sha256};

use crate::provider::settings::ToolSource;
use crate::provider::{Bundle, Progress, ProviderError, Settings, Tools, step};

/// Finds the tools, and downloads kind and helm where there are none.
pub(crate) async fn provide(settings: &Settings, bundle: Option<&Bundle>, progress: &dyn Progress) -> Result<Tools, ProviderError> {
    let find = |tool: &str| {
        let bundled = bundle.map(|b| b.bin.join(tool)).filter(|p| p.is_file());
        bundled.or_else(|| on_path(tool))
    };
    let need = async |tool: &str| match find(tool) {
        Some(path) => Ok(path),
        None => fetch(tool, settings, progress).await,
    };
    let istioctl = match find("istioctl") {
        Some(path) => Some(path),
        None => fetch("istioctl", settings, progress).await.inspect_err(|e| progress.warn(&format!("{e}; `analyze` checks need it"))).ok(),
    };
    Ok(Tools { kind: need("kind").await?, helm: need("helm").await?, istioctl, kubectl: find("kubectl") })
}

fn on_path(tool: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(tool)).find(|p| is_executable(p))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// `linux-amd64` and so on, in the words of those who publish the tools.
fn platform() -> (&'static str, &'static str) {
    let os = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    (os, arch)
}

fn cache_dir() -> Result<PathBuf, ProviderError> {
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from).or_else(home);
    Ok(base.unwrap_or_else(std::env::temp_dir).join("gateproof/bin"))
}

async fn fetch(tool: &str, settings: &Settings, progress: &dyn Progress) -> Result<PathBuf, ProviderError> {
    let failed = |why: String| ProviderError::Tool { tool: tool.to_owned(), why };
    let source = settings.tools.get(tool).ok_or_else(|| failed("kind/versions.yaml says nothing of it".to_owned()))?;
    let target = cache_dir()?.join(format!("{tool}-{}", source.version));
    if is_executable(&target) {
        return Ok(target);
    }
    let (url, sum) = download_of(tool, source, platform()).map_err(failed)?;
    let bytes = step(progress, &format!("download {tool} {}", source.version), download(&url)).await.map_err(failed)?;
    let got = format!("{:x}", HexDigest(Sha256::digest(&bytes).to_vec()));
    if got != sum {
        return Err(failed(format!("{url} has the SHA-256 {got}, and kind/versions.yaml wants {sum}: not used")));
    }
    let program = match &source.member {
        Some(member) => member_of(&bytes, &fill(member, source, platform())).map_err(failed)?,
        None => bytes,
    };
    install(&target, &program).map_err(|e| failed(format!("{} could not be written: {e}", target.display())))?;
    Ok(target)
}

/// Where to download from and what must come. No checksum, no download.
fn download_of(tool: &str, source: &ToolSource, platform: (&str, &str)) -> Result<(String, String), String> {
    let key = format!("{}-{}", platform.0, platform.1);
    let url = fill(&source.url, source, platform);
    match source.sha256.get(&key) {
        Some(sum) => Ok((url, sum.clone())),
        None => Err(format!(
            "it is not on the PATH, and kind/versions.yaml has no checksum of {tool} {} for {key}, so it is not downloaded; install it, or add the checksum that its publisher gives for {url}",
            source.version
        )),
    }
}

/// What becomes of a tool that is on no path: it is fetched once it is needed, or it is not.
pub(crate) fn not_here(tool: &str, settings: &Settings) -> String {
    let Some(source) = settings.tools.get(tool) else { return "not here; kind/versions.yaml says nothing of it".to_owned() };
    if cache_dir().is_ok_and(|dir| is_executable(&dir.join(format!("{tool}-{}", source.version)))) {
        return format!("{} was fetched earlier", source.version);
    }
    match download_of(tool, source, platform()) {
        Ok(_) => format!("not here; {} is fetched when it is needed", source.version),
        Err(_) => format!("not here, and {} has no checksum in kind/versions.yaml, so it is not downloaded; install it", source.version),
    }
}

fn fill(text: &str, source: &ToolSource, (os, arch): (&str, &str)) -> String {
    text.replace("{version}", &source.version).replace("{os}", os).replace("{arch}", arch)
}

pub(crate) async fn download(url: &str) -> Result<Vec<u8>, String> {
    // reqwest is built without a provider of its own; a second installation is refused, and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fetch = async { reqwest::Client::builder().build()?.get(url).send().await?.error_for_status()?.bytes().await };
    fetch.await.map(|b| b.to_vec()).map_err(|e| {
        let mut why = e.to_string();
        let mut source = std::error::Error::source(&e);
        while let Some(cause) = source {
            why = format!("{why}: {cause}");
            source = cause.source();
        }
        format!("{url} could not be downloaded: {why}; put the tool on the PATH, or name a bundle that has it")
    })
}

fn member_of(archive: &[u8], member: &str) -> Result<Vec<u8>, String> {
    let broken = |e: std::io::Error| format!("the archive cannot be read: {e}");
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if entry.path().is_ok_and(|p| p == Path::new(member)) {
            let mut program = Vec::new();
            entry.read_to_end(&mut program).map_err(broken)?;
            return Ok(program);
        }
    }
    Err(format!("the archive has no {member}"))
}

/// Whole or not at all: another run may look for it at the same time.
fn install(target: &Path, program: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let dir = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    std::io::Write::write_all(&mut temporary, program)?;
    temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o755))?;
    temporary.into_temp_path().persist(target).map_err(|e| e.error)
}

/// Bytes that are shown as lower-case hex.
pub(crate) struct HexDigest(pub(crate) Vec<u8>);

impl std::fmt::LowerHex for HexDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Runs a command; an error has the end of what it printed.
pub(crate) async fn run(what: &str, command: &mut tokio::process::Command) -> Result<String, ProviderError> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().map_err(ProviderError::io(format!("start the command to {what}")))?;
    finish(what, child).await
}

/// Waits for a command whose output is piped.
pub(crate) async fn finish(what: &str, child: tokio::process::Child) -> Result<String, ProviderError> {
    let output = child.wait_with_output().await.map_err(ProviderError::io(what))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr }).into_owned();
    let lines: Vec<_> = said.lines().filter(|l| !l.trim().is_empty()).collect();
    let end = lines[lines.len().saturating_sub(12)..].join("\n");
    Err(ProviderError::Command { what: what.to_owned(), seen: format!("{}: {end}", output.status) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(sums: &[(&str, &str)]) -> ToolSource {
        ToolSource {
            version: "1.2.3".to_owned(),
            url: "https://x/v{version}/t-{os}-{arch}.tar.gz".to_owned(),
            member: Some("{os}-{arch}/t".to_owned()),
            sha256: sums.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn without_a_checksum_nothing_is_downloaded() {
        let refused = download_of("t", &source(&[]), ("linux", "amd64")).unwrap_err();
        assert!(
            refused.contains("no checksum of t 1.2.3 for linux-amd64") && refused.contains("https://x/v1.2.3/t-linux-amd64.tar.gz"),
            "{refused}"
        );
        let (url, sum) = download_of("t", &source(&[("darwin-arm64", "ab")]), ("darwin", "arm64")).unwrap();
        assert_eq!((url.as_str(), sum.as_str()), ("https://x/v1.2.3/t-darwin-arm64.tar.gz", "ab"));
    }

    #[test]
    fn a_member_is_taken_out_and_made_executable() {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        tar.append_data(&mut header, "linux-amd64/t", b"prog".as_slice()).unwrap();
        let archive = tar.into_inner().unwrap().finish().unwrap();
        assert_eq!(member_of(&archive, "linux-amd64/t").unwrap(), b"prog");
        assert!(member_of(&archive, "t").is_err());
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("deep/t");
        install(&target, b"prog").unwrap();
        assert!(is_executable(&target));
    }
}
