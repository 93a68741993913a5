//! A cluster for the length of a run, whoever provides it.

use std::ops::Deref;

use super::{Choice, Cluster, ClusterNeeds, Progress, ProviderError, ProviderOptions, embedded, existing, kind};

/// A cluster that is the run's until it is given back.
pub struct Lease(Held);

enum Held {
    /// Made by us: dropping it without [`Lease::down`] removes it, unless it is kept.
    Kind(Box<kind::Lease>),
    /// There before us: giving it back takes away our lock on it, nothing else.
    Existing(Box<existing::Lease>),
    /// In this process: dropping it is all.
    Embedded(Box<embedded::Lease>),
}

impl Deref for Lease {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        match &self.0 {
            Held::Kind(lease) => lease,
            Held::Existing(lease) => lease,
            Held::Embedded(lease) => lease,
        }
    }
}

impl Lease {
    /// Makes the cluster have more. One that is not ours has what it has, and lacking it is an error at its first use.
    ///
    /// # Errors
    /// When the cluster cannot be extended.
    pub async fn extend(&mut self, options: &ProviderOptions, needs: &ClusterNeeds, progress: &dyn Progress) -> Result<(), ProviderError> {
        match &mut self.0 {
            Held::Kind(lease) => lease.extend(options, needs, progress).await,
            Held::Existing(_) => Ok(()),
            Held::Embedded(lease) => lease.extend(options, needs).await,
        }
    }

    /// Gives the cluster back: ours is removed, unless it is kept; another stays as it is.
    ///
    /// # Errors
    /// When Docker or the API server refuses; what is left is removed by the next run.
    pub async fn down(self, progress: &dyn Progress) -> Result<(), ProviderError> {
        match self.0 {
            Held::Kind(lease) => lease.down(progress).await,
            Held::Existing(lease) => lease.down().await,
            Held::Embedded(_) => Ok(()),
        }
    }
}

/// Gives a cluster that has what is needed.
///
/// # Errors
/// When it cannot be had; then nothing of it is left, or nothing was touched.
pub async fn up(options: &ProviderOptions, needs: &ClusterNeeds, progress: &dyn Progress) -> Result<Lease, ProviderError> {
    Ok(Lease(match &options.choice {
        Choice::Kind => Held::Kind(Box::new(kind::up(options, needs, progress).await?)),
        Choice::Existing(existing) => Held::Existing(Box::new(existing::up(options, existing, needs, progress).await?)),
        Choice::Embedded => Held::Embedded(Box::new(embedded::up(options, needs, progress).await?)),
        Choice::Unnamed => {
            let (settled, _) = super::settle(options).await;
            return Box::pin(up(&settled, needs, progress)).await;
        }
    }))
}
