//! Sees to it that every certificate is there that is wanted, in good time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use instant_acme::{Account, Error};

use super::account::account;
use super::issued::Issued;
use super::order::order;
use super::renewal::{Progress, Window};
use super::renewals::{Renewal, Renewals};
use super::storage::{Kind, read, save, write};
use super::{Acme, Challenges};
use crate::tls::Automatic;
use crate::upstream::Backends;

/// How long an authority that does not say when to renew is not asked for that again.
const UNSAID: Duration = Duration::from_secs(6 * 3600);

/// What keeps certificates.
pub struct Keeper {
    challenges: Challenges,
    renewals: Renewals,
    backends: Arc<Backends>,
    /// The proofs that are shown.
    shown: Vec<(Kind, String, String)>,
    /// Whether one is being asked for.
    is_busy: Arc<AtomicBool>,
    /// What was said of the folder, so that it is said once.
    complaint: Option<String>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    /// One that shows proofs in `challenges` and tells of what it does in `renewals`.
    pub fn new(challenges: Challenges, renewals: Renewals, backends: Arc<Backends>) -> Self {
        Self {
            challenges,
            renewals,
            backends,
            shown: Vec::new(),
            is_busy: Arc::default(),
            complaint: None,
        }
    }

    /// Looks at the folder; asks for the first certificate that is due, unless it `only_shows` proofs. Blocks for
    /// a moment.
    pub fn look(&mut self, acme: &Arc<Acme>, wanted: &[Arc<Automatic>], only_shows: bool) {
        let prepared = acme.storage.prepare().map_err(|error| error.to_string());
        let complaint = prepared.err();
        if let Some(complaint) = complaint.as_ref().filter(|_| complaint != self.complaint) {
            log::error!("certificates can't be kept, and are not asked for: {complaint}");
        }
        self.complaint = complaint;
        if self.complaint.is_some() {
            return;
        }
        self.challenges.refresh(&acme.storage, &mut self.shown);
        let now = SystemTime::now();
        let mut all = HashMap::new();
        let mut first = None;
        for automatic in wanted {
            let issued = Issued::read(automatic);
            let progress = progress(automatic);
            let due = progress.due(issued.as_ref(), now);
            let is_to_ask = issued.is_some() && progress.is_to_ask(now);
            if (due <= now || is_to_ask) && first.is_none() {
                first = Some(automatic);
            }
            let renewal = Renewal {
                due,
                failures: progress.failures,
                error: progress.error,
            };
            all.insert(automatic.file.clone(), renewal);
        }
        self.renewals.replace(all);
        let Some(first) = first.filter(|_| !only_shows) else {
            return;
        };
        if !self.is_busy.swap(true, Ordering::Relaxed) {
            let attempt = Attempt {
                acme: acme.clone(),
                wanted: first.clone(),
                backends: self.backends.clone(),
                renewals: self.renewals.clone(),
            };
            let is_busy = self.is_busy.clone();
            tokio::spawn(async move {
                attempt.run().await;
                is_busy.store(false, Ordering::Relaxed);
            });
        }
    }
}

fn progress(automatic: &Automatic) -> Progress {
    let found = read(&Progress::file(&automatic.file));
    found.ok().flatten().unwrap_or_default()
}

/// One certificate that something is to be done about.
struct Attempt {
    acme: Arc<Acme>,
    wanted: Arc<Automatic>,
    backends: Arc<Backends>,
    renewals: Renewals,
}

impl Attempt {
    async fn run(&self) {
        let locked = match self.acme.storage.lock(&self.wanted.file) {
            Ok(Some(locked)) => locked,
            // Another process is at it.
            Ok(None) => return,
            Err(error) => return log::error!("a certificate is not asked for: {error}"),
        };
        let now = SystemTime::now();
        let mut progress = progress(&self.wanted);
        let issued = Issued::read(&self.wanted);
        // Another process may have been at it just now.
        let is_due = progress.due(issued.as_ref(), now) <= now;
        let is_to_ask = issued.is_some() && progress.is_to_ask(now);
        if is_due {
            self.renew(issued.as_ref(), &mut progress).await;
        } else if let (Some(issued), true) = (&issued, is_to_ask) {
            self.ask(issued, &mut progress).await;
        } else {
            return;
        }
        if let Err(error) = save(&Progress::file(&self.wanted.file), &progress) {
            log::error!("what came of asking for a certificate is not kept: {error}");
        }
        drop(locked);
    }

    async fn renew(&self, issued: Option<&Issued>, progress: &mut Progress) {
        let names = self.wanted.names.join(",");
        let done = match self.get(issued, progress.failures).await {
            Ok(pem) => write(&self.wanted.file, pem.as_bytes()).map_err(|error| error.to_string()),
            Err(problem) => Err(problem),
        };
        self.renewals.count(done.is_ok());
        match done {
            Ok(()) => {
                log::info!("certificate issued: names={names}");
                *progress = Progress::default();
            }
            Err(problem) => {
                progress.failed(problem.clone(), SystemTime::now(), fastrand::f64());
                log::error!(
                    "certificate not issued: names={names} attempt={} error={problem}",
                    progress.failures
                );
            }
        }
    }

    async fn get(&self, issued: Option<&Issued>, failures: u32) -> Result<String, String> {
        let account = self.account().await?;
        let ways = &self.acme.challenges;
        let way = ways.get(failures as usize % ways.len().max(1));
        let way = way.ok_or("there is no way to prove whose the names are")?;
        order(&account, &self.wanted, issued, *way, &self.acme.storage).await
    }

    /// Asks when the authority wants a certificate to be renewed (RFC 9773).
    async fn ask(&self, issued: &Issued, progress: &mut Progress) {
        let now = SystemTime::now();
        let (window, after) = match self.suggestion(issued).await {
            Ok((window, after)) => (Some(window), after),
            Err(problem) => {
                log::debug!("the authority does not say when to renew: {problem}");
                (None, UNSAID)
            }
        };
        progress.answered(window, after, now);
    }

    async fn suggestion(&self, issued: &Issued) -> Result<(Window, Duration), String> {
        let id = issued.id().ok_or("the certificate has no id")?;
        let account = self.account().await?;
        let (info, after) = account
            .renewal_info(&id)
            .await
            .map_err(|error: Error| error.to_string())?;
        let window = Window {
            start: info.suggested_window.start.into(),
            end: info.suggested_window.end.into(),
        };
        Ok((window, after))
    }

    async fn account(&self) -> Result<Account, String> {
        let file = self.acme.storage.account();
        // Two certificates at the same time must not make two of them.
        let _locked = loop {
            match self
                .acme
                .storage
                .lock(file)
                .map_err(|error| error.to_string())?
            {
                Some(locked) => break locked,
                None => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        };
        account(&self.acme, &self.backends).await
    }
}
