//! Which provider, where none was named.

use super::{Bundle, Choice, ProviderOptions, Settings, kind};

/// Options with a provider that is settled, and why it is this one. One that was named stays.
///
/// Kind, where an engine passes the preflight and a node image is here or can be had; else the simulated mesh.
pub async fn settle(options: &ProviderOptions) -> (ProviderOptions, Option<String>) {
    if !matches!(options.choice, Choice::Unnamed) {
        return (options.clone(), None);
    }
    let (choice, why) = match kind_is_possible(options).await {
        Ok(()) => (Choice::Kind, "the default: no provider was named, and this machine passes kind's preflight".to_owned()),
        Err(why) => (Choice::Embedded, format!("no provider was named, and kind is not possible here: {why}")),
    };
    (ProviderOptions { choice, ..options.clone() }, Some(why))
}

async fn kind_is_possible(options: &ProviderOptions) -> Result<(), String> {
    kind::look().await.map_err(|e| e.to_string())?;
    if let Some(bundle) = &options.bundle {
        return Bundle::read(bundle).map(|_| ()).map_err(|e| e.to_string());
    }
    let settings = Settings::read(&options.kind).map_err(|e| e.to_string())?;
    let image = options.node_image.as_deref().unwrap_or(&settings.node_image);
    kind::has_or_can_have(image).await
}
