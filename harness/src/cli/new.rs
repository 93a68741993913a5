//! `new`: a scenario to begin with, from a pattern or from what stands in a cluster.

mod draft;
mod live;
mod template;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};

use anstream::{eprintln, println};
use gateproof_core::names::{HostName, Namespaced, ScenarioId};
use gateproof_core::scenario::load_catalogue;

use super::run::ProvideFlags;
use super::{Common, EXIT_GREEN, EXIT_INPUT};

/// Flags of `new`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct NewFlags {
    /// The scenario's path below the scenarios folder, such as `30-shop`
    name: String,
    /// A host that the ingress gateway serves (this is the default)
    #[arg(long, conflicts_with_all = ["egress", "from_cluster"])]
    ingress: bool,
    /// A host outside the mesh that is reached through the egress gateway
    #[arg(long, conflicts_with = "from_cluster")]
    egress: bool,
    /// The host; by default one made of the name
    #[arg(long, conflicts_with = "from_cluster")]
    host: Option<String>,
    /// Draft from the Gateways, VirtualServices, ServiceEntries, DestinationRules and HTTPRoutes of this namespace: of the
    /// context that --context names, else of gateproof's kept cluster. Nothing is changed there
    #[arg(long, value_name = "NAMESPACE")]
    from_cluster: Option<String>,
    /// With --from-cluster: do not make the calls once to see what is answered; each check then says TODO
    #[arg(long, requires = "from_cluster")]
    no_look: bool,
    /// With --from-cluster: the Deployment that calls the hosts of ServiceEntries; curl has to be in it
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "from_cluster")]
    caller: Option<String>,
    #[command(flatten)]
    provide: ProvideFlags,
}

/// One file of a new scenario: its path below the scenarios folder, and its text.
pub(super) type File = (String, String);

/// Writes a new scenario.
pub(super) fn new(common: &Common, flags: &NewFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let wrong = |text: String| {
            eprintln!("error: {text}");
            EXIT_INPUT
        };
        let id = ScenarioId::new(&*flags.name).map_err(|e| wrong(e.to_string()))?;
        let dir = common.scenarios.join(id.as_str());
        if dir.exists() {
            return Err(wrong(format!("{} is there already, and nothing is overwritten; choose another name", dir.display())));
        }
        if let Some(namespace) = &flags.from_cluster {
            let caller = flags.caller.as_deref().map(Namespaced::parse).transpose().map_err(|e| wrong(e.to_string()))?;
            return live::new_from_cluster(common, flags, &id, namespace, caller);
        }
        let host = flags.host.clone().unwrap_or_else(|| template::default_host(&id, flags.egress));
        let host = HostName::new(host).map_err(|e| wrong(e.to_string()))?;
        let files = if flags.egress { template::egress(&id, &host) } else { template::ingress(&id, &host) };
        put(&common.scenarios, &id, files)?;
        let again = common.again();
        println!("gateproof run {id}{again} --provider embedded    # at once, without a cluster");
        println!("gateproof run {id}{again} --keep                 # on kind, which stays for the next time");
        Ok(EXIT_GREEN)
    };
    answer().unwrap_or_else(|code| code)
}

/// Writes the files and what they stand on, and tells where they are. Mistakes in the result are told as `lint` tells them;
/// a draft has them on purpose where something is to be decided.
fn put(root: &Path, id: &ScenarioId, files: Vec<File>) -> Result<(), u8> {
    let found = load_catalogue(root);
    let mut files = files;
    let base = "00-sample-apps";
    let has_base = found.scenarios.iter().map(|s| &s.id).chain(found.broken.iter().map(|b| &b.id)).any(|s| s.as_str() == base);
    if !has_base && files.iter().any(|(_, text)| text.contains("needs: [00-sample-apps]")) {
        files.extend(template::sample_apps());
    }
    if !root.join(write::SCHEMA).exists() {
        files.push((write::SCHEMA.to_owned(), format!("{:#}\n", gateproof_core::scenario::schema())));
    }
    let written: Vec<PathBuf> = write::all(root, &files).map_err(|error| {
        eprintln!("error: {error}");
        EXIT_INPUT
    })?;
    for file in written {
        println!("{}", file.display());
    }
    for mistake in load_catalogue(root).broken.iter().filter(|b| b.id == *id).flat_map(|b| &b.mistakes) {
        eprintln!("to be decided: {mistake}");
    }
    Ok(())
}
