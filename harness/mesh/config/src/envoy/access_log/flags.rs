//! Response flags: `source/common/stream_info/utility.h`.

macro_rules! flags {
    ($($name:ident $short:literal $long:literal $doc:literal)*) => {
        /// A response flag. Their order is Envoy's order of writing them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Flag {
            $(#[doc = $doc] $name,)*
        }

        impl Flag {
            /// All, in order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The flag that a filter of access logs names.
            pub fn from_short(short: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|flag| flag.short() == short)
            }

            /// The name in access logs.
            pub fn short(self) -> &'static str {
                match self { $(Self::$name => $short),* }
            }

            /// The name that `%RESPONSE_FLAGS_LONG%` writes.
            pub fn long(self) -> &'static str {
                match self { $(Self::$name => $long),* }
            }
        }
    };
}

flags! {
    FailedLocalHealthCheck "LH" "FailedLocalHealthCheck" "The local service failed its health check."
    NoHealthyUpstream "UH" "NoHealthyUpstream" "No healthy endpoint."
    UpstreamRequestTimeout "UT" "UpstreamRequestTimeout" "The upstream took too long."
    LocalReset "LR" "LocalReset" "Reset by this side."
    UpstreamRemoteReset "UR" "UpstreamRemoteReset" "Reset by the upstream."
    UpstreamConnectionFailure "UF" "UpstreamConnectionFailure" "The upstream could not be connected to."
    UpstreamConnectionTermination "UC" "UpstreamConnectionTermination" "The upstream closed the connection."
    UpstreamOverflow "UO" "UpstreamOverflow" "A circuit breaker is open."
    NoRouteFound "NR" "NoRouteFound" "No route, or no filter chain."
    DelayInjected "DI" "DelayInjected" "A fault delayed it."
    FaultInjected "FI" "FaultInjected" "A fault answered it."
    RateLimited "RL" "RateLimited" "A rate limit answered it."
    UnauthorizedExternalService "UAEX" "UnauthorizedExternalService" "An external authorisation service refused it."
    RateLimitServiceError "RLSE" "RateLimitServiceError" "The rate limit service failed."
    DownstreamConnectionTermination "DC" "DownstreamConnectionTermination" "The client went away."
    UpstreamRetryLimitExceeded "URX" "UpstreamRetryLimitExceeded" "All retries, or all connect attempts, were used up."
    StreamIdleTimeout "SI" "StreamIdleTimeout" "The stream was idle for too long."
    InvalidEnvoyRequestHeaders "IH" "InvalidEnvoyRequestHeaders" "A strictly checked header was wrong."
    DownstreamProtocolError "DPE" "DownstreamProtocolError" "The client's HTTP was wrong."
    UpstreamMaxStreamDurationReached "UMSDR" "UpstreamMaxStreamDurationReached" "The stream lasted too long."
    ResponseFromCacheFilter "RFCF" "ResponseFromCacheFilter" "From a cache."
    NoFilterConfigFound "NFCF" "NoFilterConfigFound" "A filter's configuration was missing."
    DurationTimeout "DT" "DurationTimeout" "The connection lasted too long."
    UpstreamProtocolError "UPE" "UpstreamProtocolError" "The upstream's HTTP was wrong."
    NoClusterFound "NC" "NoClusterFound" "No such cluster."
    OverloadManager "OM" "OverloadManagerTerminated" "The overload manager ended it."
    DnsResolutionFailed "DF" "DnsResolutionFailed" "A name did not resolve."
    DropOverload "DO" "DropOverload" "Dropped by the endpoints' drop policy."
    DownstreamRemoteReset "DR" "DownstreamRemoteReset" "Reset by the client."
    UnconditionalDropOverload "UDO" "UnconditionalDropOverload" "Dropped, all of them."
}

/// The flags of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(Vec<Flag>);

impl Flags {
    /// Add one.
    pub fn set(&mut self, flag: Flag) {
        if !self.has(flag) {
            self.0.push(flag);
        }
    }

    /// Whether it is there.
    pub fn has(&self, flag: Flag) -> bool {
        self.0.contains(&flag)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order in which they were set, which is that of the log (`StreamInfoImpl::setResponseFlag` appends): a TCP proxy
    /// says `UF,URX`, a router whose retries are used up `URX,UF`.
    pub fn iter(&self) -> impl Iterator<Item = Flag> {
        self.0.iter().copied()
    }
}

impl FromIterator<Flag> for Flags {
    fn from_iter<I: IntoIterator<Item = Flag>>(flags: I) -> Self {
        let mut all = Self::default();
        flags.into_iter().for_each(|flag| all.set(flag));
        all
    }
}
