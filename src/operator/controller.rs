//! One turn for each cluster that something happened to, or whose time has come; no cluster waits
//! for another.

use std::collections::{HashMap, HashSet};
use std::error::Error as StdError;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex as TurnLock, broadcast};
use tokio::task::JoinHandle;

use super::events::Events;
use super::metrics::Metrics;
use super::{Clients, Options};
use crate::clock::Clock;
use crate::cluster::spec::DeletionPolicy;
use crate::execute::pods::resource::ClusterObject;
use crate::execute::pods::{CLUSTER, Pods, PodsError, SPEC_REFUSED, Words};
use crate::execute::{self, Outcome, Turn};
use crate::plan::Step;

/// Keeps a resource until what its `deletionPolicy` asks for is done.
const FINALIZER: &str = "quorate.dev/cluster";

/// After a step that was carried out.
const AT_ONCE: Duration = Duration::from_millis(20);
/// While something is under way that no watch tells.
const SOON: Duration = Duration::from_millis(500);
/// While all is well: a data dir that was deleted shows in no watch (safety 10).
const QUIET: Duration = Duration::from_secs(2);
/// The same, while nodes that have something to say are heard at once.
const LISTENING: Duration = Duration::from_secs(5);
/// While a person is needed, or has said to wait.
const BLOCKED: Duration = Duration::from_secs(3);
/// The longest pause after errors: an API server that is overloaded is left alone for that long,
/// and a cluster unattended for no longer.
const LONGEST: Duration = Duration::from_secs(10);
/// Clusters with news that are not taken up yet; what is more waits for their next turn.
const NEWS: usize = 1024;
/// After what another try will not mend.
const MUCH_LATER: Duration = Duration::from_secs(60);

/// Why a turn failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TurnError {
    /// The executor's own.
    #[error(transparent)]
    Pods(#[from] PodsError),
    /// The API server refused something around it.
    #[error("cannot {action}")]
    Api {
        /// What was tried.
        action: &'static str,
        /// Its answer.
        source: Box<kube::Error>,
    },
}

impl TurnError {
    /// Whether the API server refuses to make anything because the namespace is being deleted.
    fn is_end_of_namespace(&self) -> bool {
        let (TurnError::Api { source, .. } | TurnError::Pods(PodsError::Api { source, .. })) = self
        else {
            return false;
        };
        let kube::Error::Api(status) = source.as_ref() else { return false };
        let causes = status.details.iter().flat_map(|it| &it.causes);
        causes.into_iter().any(|it| it.reason == "NamespaceTerminating")
    }
}

/// What all turns share.
struct Context {
    kube: kube::Client,
    node_image: String,
    metrics: Arc<Metrics>,
    events: Events,
    clusters: Mutex<HashMap<String, Arc<TurnLock<Cluster>>>>,
    /// Those of whose pods or volumes a watch has told something, or a node.
    heard: Mutex<HashSet<String>>,
    /// Those of which a node has.
    news: broadcast::Sender<ObjectRef<ClusterObject>>,
}

/// What is kept of a cluster between its turns; all of it may be lost at any time.
#[derive(Default)]
struct Cluster {
    pods: Option<Pods>,
    /// What its last turns failed at, and how many of them in a row. One that fails at something
    /// else has come further, or at least is not stuck.
    failed_at: String,
    failures: u32,
    /// Its last turn found all as wanted.
    is_quiet: bool,
    /// Waits for its nodes to say something new.
    ear: Option<Ear>,
}

/// Waits for nodes to say something other than these words, until it is dropped.
struct Ear {
    words: Words,
    task: JoinHandle<()>,
}

impl Ear {
    /// Listens on, or anew if it has heard something or other words are known by now.
    fn listen(
        ear: Option<Ear>,
        words: &Words,
        object: &ClusterObject,
        context: &Arc<Context>,
    ) -> Ear {
        if let Some(ear) = ear.filter(|it| it.words == *words && !it.task.is_finished()) {
            return ear;
        }
        let (key, cluster) = (key(object), ObjectRef::from(object));
        let (context, until_news) = (Arc::clone(context), words.clone().until_news());
        let task = tokio::spawn(async move {
            until_news.await;
            context.heard.lock().insert(key);
            // Nobody is there to hear it only while all ends.
            let _ = context.news.send(cluster);
        });
        Ear { words: words.clone(), task }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks after the clusters until `until` says so; turns that have begun are ended first.
pub(super) async fn run(
    clients: &Clients,
    options: &Options,
    metrics: Arc<Metrics>,
    until: impl Future<Output = ()> + Send + 'static,
) {
    let context = Arc::new(Context {
        kube: clients.kube.clone(),
        node_image: options.node_image.clone(),
        events: Events::new(clients.kube.clone(), &options.identity),
        metrics,
        clusters: Mutex::default(),
        heard: Mutex::default(),
        news: broadcast::Sender::new(NEWS),
    });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let namespaces: Vec<Option<&String>> = if options.namespaces.is_empty() {
        vec![None]
    } else {
        options.namespaces.iter().map(Some).collect()
    };
    let watched = namespaces.into_iter().map(|namespace| {
        let mut stopped = stopped.clone();
        let stopped = async move {
            // An error means the same.
            let _ = stopped.wait_for(|it| *it).await;
        };
        watch(&clients.watches, namespace, Arc::clone(&context), stopped)
    });
    let watched = join_all(watched);
    tokio::pin!(watched);
    tokio::select! {
        _ = &mut watched => return,
        () = until => {}
    }
    let _ = stop.send(true);
    watched.await;
}

async fn watch(
    kube: &kube::Client,
    namespace: Option<&String>,
    context: Arc<Context>,
    stopped: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let ours = watcher::Config::default().labels(CLUSTER);
    let here = namespace.cloned();
    let news = news(context.news.subscribe())
        .filter(move |it| ready(here.is_none() || it.namespace == here));
    Controller::new(api::<ClusterObject>(kube, namespace), watcher::Config::default())
        .watches(api::<Pod>(kube, namespace), ours.clone(), told(Arc::clone(&context)))
        .watches(api::<PersistentVolumeClaim>(kube, namespace), ours, told(Arc::clone(&context)))
        .reconcile_on(news)
        .graceful_shutdown_on(stopped)
        .run(reconcile, on_error, context)
        .for_each(|_| ready(()))
        .await;
}

/// The clusters that nodes have news of.
fn news(
    told: broadcast::Receiver<ObjectRef<ClusterObject>>,
) -> impl Stream<Item = ObjectRef<ClusterObject>> {
    unfold(told, |mut told| async move {
        loop {
            match told.recv().await {
                Ok(cluster) => return Some((cluster, told)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    })
}

fn api<K>(kube: &kube::Client, namespace: Option<&String>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(kube.clone(), namespace),
        None => Api::all(kube.clone()),
    }
}

/// Takes note of whose object has changed.
fn told<K: ResourceExt>(context: Arc<Context>) -> impl Fn(K) -> Option<ObjectRef<ClusterObject>> {
    move |object| {
        let cluster = cluster_of(&object)?;
        let namespace = cluster.namespace.as_deref().unwrap_or_default();
        context.heard.lock().insert(format!("{namespace}/{}", cluster.name));
        Some(cluster)
    }
}

fn cluster_of<K: ResourceExt>(object: &K) -> Option<ObjectRef<ClusterObject>> {
    let name = object.labels().get(CLUSTER)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

fn key(object: &ClusterObject) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

async fn reconcile(object: Arc<ClusterObject>, context: Arc<Context>) -> Result<Action, TurnError> {
    let key = key(&object);
    let cell = Arc::clone(context.clusters.lock().entry(key.clone()).or_default());
    let mut cluster = cell.lock().await;
    // Before anything is read: what is told from here on counts for the next turn.
    let is_heard = context.heard.lock().remove(&key);
    let was_quiet = std::mem::take(&mut cluster.is_quiet);
    let ear = cluster.ear.take();
    if object.metadata.deletion_timestamp.is_some() {
        clean_up(&object, &context).await?;
        context.clusters.lock().remove(&key);
        context.metrics.forget(&key);
        return Ok(Action::await_change());
    }
    if !object.finalizers().iter().any(|f| f == FINALIZER) {
        hold(&object, &context).await?;
        return Ok(Action::requeue(AT_ONCE));
    }
    let is_same = |pods: &Pods| pods.object().metadata.uid == object.metadata.uid;
    if !cluster.pods.as_ref().is_some_and(is_same) {
        let pods = Pods::new(context.kube.clone(), (*object).clone(), &context.node_image);
        cluster.pods = Some(pods);
    }
    let Some(pods) = cluster.pods.as_mut() else { return Ok(Action::requeue(AT_ONCE)) };
    let is_as_read = pods.object().resource_version() == object.resource_version();
    let may_rest = was_quiet && !is_heard && is_as_read;
    let begun = Clock.monotonic();
    let turned = take_turn(pods, &context, may_rest).await;
    context.metrics.turn(&key, Clock.monotonic().since(begun), &turned);
    let turned = turned?;
    let is_quiet = turned.as_ref().is_some_and(is_done);
    let words = pods.words().filter(|_| is_quiet);
    let ear = words.map(|words| Ear::listen(ear, words, pods.object(), &context));
    let action = match turned {
        Some(turn) => {
            let next = pause(&turn, pods.object(), ear.is_some());
            context.metrics.show(&key, pods);
            context.events.tell(pods.object(), &turn).await;
            Action::requeue(next)
        }
        None => Action::await_change(),
    };
    cluster.failures = 0;
    cluster.failed_at.clear();
    cluster.is_quiet = is_quiet;
    cluster.ear = ear;
    Ok(action)
}

/// All is as wanted.
fn is_done(turn: &Turn) -> bool {
    turn.step == Step::Done && turn.outcome == Outcome::Done
}

/// One turn; `None` if the resource is gone. One that may rest asks the API server for nothing as
/// long as the members say that all is as it was.
async fn take_turn(
    pods: &mut Pods,
    context: &Context,
    may_rest: bool,
) -> Result<Option<Turn>, TurnError> {
    if may_rest {
        pods.rest();
        let wanted = pods.wanted().await?;
        let turn = execute::turn(pods, &wanted).await?;
        if is_done(&turn) {
            return Ok(Some(turn));
        }
    }
    let Some(object) = pods.refresh().await? else { return Ok(None) };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let wanted = match pods.wanted().await {
        Err(PodsError::Spec(error)) => {
            context.events.refuse(pods.object(), SPEC_REFUSED, &error.to_string()).await;
            pods.refuse(&error).await?;
            return Err(PodsError::Spec(error).into());
        }
        other => other?,
    };
    if let Some(error) = pods.refused() {
        context.events.refuse(pods.object(), SPEC_REFUSED, &error.to_string()).await;
    }
    let turned = execute::turn(pods, &wanted).await.map_err(TurnError::from);
    if let Some(why) = turned.as_ref().err().and_then(not_taken) {
        context.events.refuse(pods.object(), "Refused", &why).await;
    }
    Ok(Some(turned?))
}

/// What the API server did not take, in its own words: a quota, a class that is not there, a part
/// of the spec that only it can judge. Another try brings nothing new.
fn not_taken(error: &TurnError) -> Option<String> {
    let TurnError::Pods(PodsError::Api { action, source }) = error else { return None };
    let kube::Error::Api(status) = source.as_ref() else { return None };
    let is_final = matches!(status.code, 400 | 403 | 413 | 422) && !error.is_end_of_namespace();
    is_final.then(|| format!("cannot {action}: {}", status.message))
}

/// When to look again, if nothing is heard before.
fn pause(turn: &Turn, object: &ClusterObject, listens: bool) -> Duration {
    match (&turn.step, &turn.outcome) {
        _ if object.spec.is_paused() => BLOCKED,
        (Step::Done, _) if listens => LISTENING,
        (Step::Done, _) => QUIET,
        (Step::Blocked { .. }, _) => BLOCKED,
        (Step::Wait { .. }, _) | (_, Outcome::NotNow(_)) => SOON,
        (_, Outcome::Done) => AT_ONCE,
    }
}

fn on_error(object: Arc<ClusterObject>, error: &TurnError, context: Arc<Context>) -> Action {
    let key = key(&object);
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    if error.is_end_of_namespace() {
        tracing::info!(cluster = key, "its namespace is being deleted, and nothing is made in it");
        return Action::requeue(MUCH_LATER);
    }
    tracing::warn!(cluster = key, error = %error, source, "the turn failed; it is taken again");
    let cell = Arc::clone(context.clusters.lock().entry(key).or_default());
    // Nobody else takes a turn of this cluster now, or that one counts instead.
    let failures = cell.try_lock().map_or(1, |mut cluster| {
        let at = error.to_string();
        cluster.failures =
            if cluster.failed_at == at { cluster.failures.saturating_add(1) } else { 1 };
        cluster.failed_at = at;
        cluster.failures
    });
    if matches!(error, TurnError::Pods(PodsError::Spec(_))) {
        return Action::requeue(MUCH_LATER);
    }
    let pause = Duration::from_millis(250).saturating_mul(1 << failures.min(8)).min(LONGEST);
    Action::requeue(pause.mul_f64(0.75 + 0.5 * jitter()))
}

/// A number from 0 to 1: clusters that failed together are not to come back together.
fn jitter() -> f64 {
    let mut byte = [0; 1];
    // Without random numbers there is no jitter, which is no harm.
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

async fn hold(object: &ClusterObject, context: &Context) -> Result<(), TurnError> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    patch(object, context, finalizers, "put a finalizer on the cluster").await
}

async fn patch(
    object: &ClusterObject,
    context: &Context,
    finalizers: Vec<String>,
    action: &'static str,
) -> Result<(), TurnError> {
    let api: Api<ClusterObject> = api(&context.kube, object.namespace().as_ref());
    let metadata = json!({"metadata": {
        "finalizers": finalizers,
        "resourceVersion": object.resource_version(),
    }});
    match api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(metadata)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(source) => Err(TurnError::Api { action, source: Box::new(source) }),
    }
}

/// The resource is being deleted: its pods go with it, its volumes only if the spec says so.
async fn clean_up(object: &ClusterObject, context: &Context) -> Result<(), TurnError> {
    if !object.finalizers().iter().any(|f| f == FINALIZER) {
        return Ok(());
    }
    if object.spec.deletion_policy() == DeletionPolicy::Delete {
        let claims: Api<PersistentVolumeClaim> = api(&context.kube, object.namespace().as_ref());
        let failed = |source| TurnError::Api {
            action: "delete the cluster's volumes",
            source: Box::new(source),
        };
        let ours = ListParams::default().labels(&format!("{CLUSTER}={}", object.name_any()));
        for claim in claims.list(&ours).await.map_err(failed)?.items {
            match claims.delete(&claim.name_any(), &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    let finalizers = object.finalizers().iter().filter(|f| *f != FINALIZER).cloned().collect();
    patch(object, context, finalizers, "let go of the cluster").await
}
