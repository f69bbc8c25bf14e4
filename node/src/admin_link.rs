//! The administrator's socket: `admin.sock` in the data folder, for the node's own user. One line
//! of JSON asks, one line answers: `{"ok": ..}` or `{"error": ".."}`.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use tidings_core::effect::AdminReply;
use tidings_core::event::{AdminCommand, DeadPick, PeerChange};
use tidings_protocol::client_frame::InviteSecret;
use tidings_protocol::id::{Eid, NodeId};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

pub use crate::admin_custody::Grant;
use crate::admin_custody::custody;
use crate::admin_names;
pub use crate::admin_names::NameQuestion;
use crate::admin_peers::{self, PeerLimits, PeerWord, parse_node};
use crate::admin_queue;
use crate::chance::draw;
use crate::clock;
use crate::input::Asker;
use crate::limits::{ADMIN_ANSWER_TIMEOUT, ADMIN_CONNECTIONS_MAX, ADMIN_LINE_BYTES_MAX};
use crate::metrics::Metrics;
use crate::p2p::P2p;
use crate::peer_link::PeerLink;
use crate::reload::Reloader;
use crate::snapshot::{Snapshot, Snapshots};

/// The socket's name inside the data folder.
pub(crate) const SOCKET: &str = "admin.sock";

/// What can be asked, as it stands in a line: `{"ask": "queue", "node": ".."}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminRequest {
    /// Make an invite.
    Invite {
        /// How many accounts it makes.
        uses: u32,
        /// How long it is good for, in ms.
        life_ms: u64,
    },
    /// All peers.
    Peers,
    /// What waits for one peer, or for all.
    Queue {
        /// The peer's id, if it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
    },
    /// Dead letters for one peer, or for all.
    Dead {
        /// The peer's id, if it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
    },
    /// Send dead letters again.
    Redrive(Letters),
    /// Drop dead letters.
    DropDead(Letters),
    /// All that is known of one peer.
    Peer {
        /// Its id.
        node: String,
    },
    /// Change how this node deals with another one.
    ChangePeer {
        /// Its id.
        node: String,
        /// The change.
        change: PeerWord,
        /// Why, for other administrators.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
    },
    /// Let a node in, and say where it is.
    AddPeer {
        /// Its id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// Its address, with the peer id at the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
    },
    /// Say what a peer may cost.
    LimitPeer {
        /// Its id.
        node: String,
        /// The limits.
        limits: PeerLimits,
    },
    /// Try all peers at once that there is something for.
    RetryAll,
    /// Set who may deal with this node when nothing else was said: `open`, `request` or `closed`;
    /// `default` for what is configured.
    Federation {
        /// Which; absent to be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
    },
    /// Say to everybody that this node is gone for good.
    Goodbye {
        /// Say instead that it is not.
        #[serde(default)]
        take_back: bool,
    },
    /// Read the configuration again.
    Reload,
    /// Entries of the administrators' log, oldest first.
    Log {
        /// From this number on.
        from: u64,
    },
    /// Status, peers and counters of one moment.
    Top,
    /// What is held for others, and what others hold for this node.
    Custody,
    /// Be ready to hold so much for a node.
    Grant(Grant),
    /// Hold nothing more for a node.
    Revoke {
        /// Its id.
        node: String,
    },
    /// Domains and what they stand for.
    Names(NameQuestion),
    /// The node at a glance.
    Status,
    /// All routes.
    Routes,
    /// Set a route on the running node.
    SetRoute {
        /// To which node; absent for everybody who has no route.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// Through which; absent to dial it itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        via: Option<String>,
    },
    /// Take back what was set on the running node.
    RemoveRoute {
        /// To which node; absent for everybody who has no route.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// All rows of the store in one consistent state: they follow the answer, see `snapshot.rs`.
    Snapshot,
}

/// Which dead letters: one of the two, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letters {
    /// One envelope's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eid: Option<String>,
    /// A peer's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// All that there are. Said in so many words, so that a slip does not mean everything.
    #[serde(default)]
    pub all: bool,
}

impl Letters {
    fn pick(&self) -> Result<DeadPick, String> {
        match (&self.eid, &self.node, self.all) {
            (Some(eid), None, false) => Eid::from_hex(eid).map(DeadPick::One).ok_or_else(|| {
                "this is no envelope id: `tidings admin dead list` shows them".to_owned()
            }),
            (None, Some(node), false) => parse_node(node).map(DeadPick::Peer),
            (None, None, true) => Ok(DeadPick::All),
            _ => Err("say which: an envelope, a peer, or all".to_owned()),
        }
    }
}

/// A running node could not be asked.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no node runs in {}: start it with `tidings node --data {}`", .data.display(), .data.display())]
    NotRunning {
        /// The data folder.
        data: PathBuf,
    },
    /// The socket is another user's.
    #[error("{} is for the user that the node runs as: become that user", .socket.display())]
    NotAllowed {
        /// The socket.
        socket: PathBuf,
    },
    /// The node said no.
    #[error("the node refused: {0}")]
    Refused(String),
    /// The node did not answer in time, or in another language.
    #[error("the node did not answer as expected: look at its log, and at the versions of both")]
    NoAnswer(#[source] io::Error),
}

/// Asks the node that runs in `data`.
///
/// # Errors
/// [`AskError`], each with the next step.
pub async fn ask(data: &Path, request: &AdminRequest) -> Result<Value, AskError> {
    let stream = UnixStream::connect(data.join(SOCKET)).await;
    let stream = stream.map_err(|error| not_reached(data, &error))?;
    let exchange = async {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        let mut stream = BufReader::new(stream);
        stream.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        Ok::<Answer, io::Error>(serde_json::from_str(&answer)?)
    };
    let answer = timeout(ADMIN_ANSWER_TIMEOUT + Duration::from_secs(1), exchange)
        .await
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
        .map_err(AskError::NoAnswer)?;
    match answer {
        Answer::Ok(value) => Ok(value),
        Answer::Error(why) => Err(AskError::Refused(why)),
    }
}

/// Why nobody could be asked.
pub(crate) fn not_reached(data: &Path, error: &io::Error) -> AskError {
    if error.kind() == ErrorKind::PermissionDenied {
        AskError::NotAllowed { socket: data.join(SOCKET) }
    } else {
        AskError::NotRunning { data: data.to_owned() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Ok(Value),
    Error(String),
}

/// The bound socket. The file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Binds the socket. A file of a node that died is replaced: the open store shows that no other
    /// node runs here.
    pub(crate) fn bind(data: &Path) -> io::Result<Self> {
        let path = data.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers until the task ends.
    pub(crate) async fn serve(self, admin: Admin) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < ADMIN_CONNECTIONS_MAX => {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(answer_all(stream, admin.clone()));
                        }
                        Err(error) => {
                            warn!(%error, "accepting an administrator failed");
                            tokio::time::sleep(Duration::from_secs(1)).await;
                        }
                    }
                }
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            debug!(%error, "the administrator's socket was gone already");
        }
    }
}

async fn answer_all(stream: UnixStream, admin: Admin) {
    // The file's mode keeps others out; who got it all the same is told no.
    let Ok(who) = stream.peer_cred().map(|cred| cred.uid()) else { return };
    let own = rustix::process::geteuid();
    if !own.is_root() && who != own.as_raw() && who != 0 {
        warn!(uid = who, "another user asks as an administrator, and is not answered");
        return;
    }
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        let mut bounded = (&mut stream).take(ADMIN_LINE_BYTES_MAX);
        // Who connects and asks nothing does not keep others out.
        match timeout(ADMIN_ANSWER_TIMEOUT, bounded.read_line(&mut line)).await {
            Ok(Ok(0) | Err(_)) | Err(_) => return,
            Ok(Ok(_)) => {}
        }
        let answer = match serde_json::from_str::<AdminRequest>(&line) {
            // It takes the connection with it.
            Ok(AdminRequest::Snapshot) => match admin.snapshots.begin() {
                Some(snapshot) => return hand_over(stream, snapshot).await,
                None => Answer::Error("another backup or report is being made: wait for it".into()),
            },
            Ok(request) => admin.answer(request, who).await,
            Err(error) => Answer::Error(format!("this is no question: {error}")),
        };
        let Ok(mut text) = serde_json::to_string(&answer) else { return };
        text.push('\n');
        let written = timeout(ADMIN_ANSWER_TIMEOUT, stream.write_all(text.as_bytes())).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

async fn hand_over(mut stream: BufReader<UnixStream>, snapshot: Snapshot) {
    let Ok(mut text) = serde_json::to_string(&Answer::Ok(Value::Null)) else { return };
    text.push('\n');
    let written = timeout(ADMIN_ANSWER_TIMEOUT, stream.write_all(text.as_bytes())).await;
    if matches!(written, Ok(Ok(()))) {
        snapshot.write(stream.into_inner()).await;
    }
}

/// What answering needs.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) asker: Asker,
    pub(crate) node: NodeId,
    pub(crate) peer_id: String,
    pub(crate) p2p: P2p,
    pub(crate) peer_link: PeerLink,
    pub(crate) client_url: String,
    pub(crate) snapshots: Snapshots,
    pub(crate) reloader: Reloader,
    pub(crate) metrics: Arc<Metrics>,
}

impl Admin {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others are the core's: `command` names them"
    )]
    async fn answer(&self, request: AdminRequest, who: u32) -> Answer {
        let command = match request {
            AdminRequest::Federation { mode: None } => {
                let fields = ["federation", "federation_by_hand", "requests"];
                return match self.ask(AdminCommand::Status, who).await {
                    Answer::Ok(value) => Answer::Ok(pick(value, &fields)),
                    refused @ Answer::Error(_) => refused,
                };
            }
            AdminRequest::Invite { uses, life_ms } => return self.invite(uses, life_ms, who).await,
            AdminRequest::Snapshot => {
                return Answer::Error("a snapshot takes the connection".to_owned());
            }
            AdminRequest::Reload => {
                return match self.reloader.reload(Some(who)).await {
                    Ok(value) => Answer::Ok(value),
                    Err(why) => Answer::Error(why),
                };
            }
            AdminRequest::Top => return self.top().await,
            AdminRequest::Goodbye { take_back } => return self.goodbye(take_back, who).await,
            request => command(request),
        };
        let command = match command {
            Ok(command) => command,
            Err(why) => return Answer::Error(why),
        };
        // A change is answered by what it has come to.
        let then = if let AdminCommand::ChangePeer { node, .. } = &command {
            Some((AdminCommand::Peer { node: *node }, &[][..]))
        } else if matches!(command, AdminCommand::SetFederation(_)) {
            Some((AdminCommand::Status, &["federation", "federation_by_hand", "requests"][..]))
        } else {
            None
        };
        match (self.ask(command, who).await, then) {
            (Answer::Ok(_), Some((then, fields))) => match self.ask(then, who).await {
                Answer::Ok(value) => Answer::Ok(pick(value, fields)),
                refused @ Answer::Error(_) => refused,
            },
            (answer, _) => answer,
        }
    }

    /// Who is away hears of it only once another node can tell: so that is waited for.
    async fn goodbye(&self, is_taken_back: bool, who: u32) -> Answer {
        let said = self.ask(AdminCommand::Goodbye { is_taken_back }, who).await;
        if matches!(said, Answer::Error(_)) {
            return said;
        }
        let is_published = self.peer_link.wait_for_published().await;
        match self.ask(AdminCommand::Status, who).await {
            Answer::Ok(mut status) => {
                if let Some(fields) = status.as_object_mut() {
                    fields.insert("published".to_owned(), is_published.into());
                }
                Answer::Ok(pick(status, &["retired_ms", "peers_connected", "published"]))
            }
            refused @ Answer::Error(_) => refused,
        }
    }

    async fn invite(&self, uses: u32, life_ms: u64, who: u32) -> Answer {
        let secret = match draw() {
            Ok(secret) => InviteSecret(secret),
            Err(error) => return Answer::Error(error.to_string()),
        };
        match self.ask(AdminCommand::Invite { secret, uses, life_ms }, who).await {
            Answer::Ok(_) => Answer::Ok(json!({
                "node": self.node.to_text(),
                "url": self.client_url,
                "secret": secret.to_hex(),
                "uses": uses,
                "expires_ms": clock::now_ms().saturating_add(life_ms),
            })),
            refused @ Answer::Error(_) => refused,
        }
    }

    async fn top(&self) -> Answer {
        let status = self.asker.ask(AdminCommand::Status).await;
        let peers = self.asker.ask(AdminCommand::Peers).await;
        let (Some(AdminReply::Status(status)), Some(AdminReply::Peers(peers))) = (status, peers)
        else {
            return Answer::Error("the node's loop does not answer".to_owned());
        };
        let counts: serde_json::Map<String, Value> = self
            .metrics
            .totals()
            .map(|(what, count)| (what.to_owned(), Value::from(count)))
            .collect();
        let nat = self.p2p.nat();
        Answer::Ok(json!({
            "at_ms": clock::now_ms(),
            "status": self.status(&status),
            "peers": peers.iter().map(|peer| admin_peers::peer(peer, &nat)).collect::<Vec<_>>(),
            "counts": counts,
        }))
    }

    async fn ask(&self, command: AdminCommand, who: u32) -> Answer {
        let command = AdminCommand::By { who, command: Box::new(command) };
        match self.asker.ask(command).await {
            None => Answer::Error("the node's loop does not answer".to_owned()),
            Some(AdminReply::Done) => Answer::Ok(Value::Null),
            Some(AdminReply::Refused(why)) => Answer::Error(why),
            Some(AdminReply::Peers(peers)) => {
                let nat = self.p2p.nat();
                Answer::Ok(peers.iter().map(|status| admin_peers::peer(status, &nat)).collect())
            }
            Some(AdminReply::Peer(detail)) => {
                Answer::Ok(admin_peers::detail(&detail, &self.p2p.nat()))
            }
            Some(AdminReply::Log(entries)) => {
                Answer::Ok(entries.iter().map(admin_peers::log_entry).collect())
            }
            Some(AdminReply::Queue(items)) => {
                Answer::Ok(items.iter().map(admin_queue::queue_item).collect())
            }
            Some(AdminReply::Dead(letters)) => {
                Answer::Ok(letters.iter().map(admin_queue::dead_letter).collect())
            }
            Some(AdminReply::Custody(status)) => Answer::Ok(custody(&status)),
            Some(AdminReply::Changed(count)) => Answer::Ok(json!({ "letters": count })),
            Some(AdminReply::Tried(count)) => Answer::Ok(json!({ "count": count })),
            Some(AdminReply::Names(names)) => {
                Answer::Ok(names.iter().map(admin_names::name).collect())
            }
            Some(AdminReply::NameChecked(check)) => Answer::Ok(admin_names::check(&check)),
            Some(AdminReply::Status(status)) => Answer::Ok(self.status(&status)),
            Some(AdminReply::Routes(routes)) => {
                Answer::Ok(routes.iter().map(admin_queue::route).collect())
            }
        }
    }
}

/// These fields of an answer, or all.
fn pick(mut value: Value, fields: &[&str]) -> Value {
    if let (Some(map), false) = (value.as_object_mut(), fields.is_empty()) {
        map.retain(|name, _| fields.contains(&name.as_str()));
    }
    value
}

/// What the core is asked; of what the shell answers itself, nothing.
fn command(request: AdminRequest) -> Result<AdminCommand, String> {
    let node = |text: &String| parse_node(text);
    Ok(match request {
        AdminRequest::Peers => AdminCommand::Peers,
        AdminRequest::Status => AdminCommand::Status,
        AdminRequest::Custody => AdminCommand::Custody,
        AdminRequest::Grant(grant) => AdminCommand::Grant(grant.terms()?),
        AdminRequest::Revoke { node: of } => AdminCommand::Revoke { node: node(&of)? },
        AdminRequest::RetryAll => AdminCommand::RetryAll,
        AdminRequest::Queue { node: of } => {
            AdminCommand::Queue { node: of.as_ref().map(node).transpose()? }
        }
        AdminRequest::Dead { node: of } => {
            AdminCommand::Dead { node: of.as_ref().map(node).transpose()? }
        }
        AdminRequest::Redrive(letters) => AdminCommand::Redrive(letters.pick()?),
        AdminRequest::DropDead(letters) => AdminCommand::DropDead(letters.pick()?),
        AdminRequest::Peer { node: of } => AdminCommand::Peer { node: node(&of)? },
        AdminRequest::ChangePeer { node, change, note } => {
            admin_peers::change(&node, change, note)?
        }
        AdminRequest::AddPeer { node, address } => {
            admin_peers::add(node.as_deref(), address.as_deref())?
        }
        AdminRequest::LimitPeer { node: of, limits } => AdminCommand::ChangePeer {
            node: node(&of)?,
            change: PeerChange::Limit(limits.row()?),
            note: String::new(),
        },
        AdminRequest::Federation { mode: Some(mode) } => admin_peers::federation(&mode)?,
        AdminRequest::Goodbye { take_back } => AdminCommand::Goodbye { is_taken_back: take_back },
        AdminRequest::Log { from } => AdminCommand::Log { from },
        AdminRequest::Names(question) => question.command()?,
        AdminRequest::Routes => AdminCommand::Routes,
        AdminRequest::SetRoute { to, via } => AdminCommand::SetRoute {
            to: to.as_ref().map(node).transpose()?,
            via: via.as_ref().map(node).transpose()?,
        },
        AdminRequest::RemoveRoute { to } => {
            AdminCommand::RemoveRoute { to: to.as_ref().map(node).transpose()? }
        }
        AdminRequest::Invite { .. }
        | AdminRequest::Snapshot
        | AdminRequest::Reload
        | AdminRequest::Federation { mode: None }
        | AdminRequest::Top => return Err("the core is not asked that".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::{AdminRequest, Letters};

    #[test]
    fn a_question_is_one_line_and_unknown_words_are_refused() {
        let queue = AdminRequest::Queue { node: None };
        assert_eq!(serde_json::to_string(&queue).unwrap(), r#"{"ask":"queue"}"#);
        let invite = serde_json::from_str(r#"{"ask":"invite","uses":2,"life_ms":5}"#);
        assert_eq!(invite.ok(), Some(AdminRequest::Invite { uses: 2, life_ms: 5 }));
        assert!(serde_json::from_str::<AdminRequest>(r#"{"ask":"queue","peer":""}"#).is_err());
        assert!(serde_json::from_str::<AdminRequest>(r#"{"ask":"stop"}"#).is_err());
    }

    #[test]
    fn which_dead_letters_is_said_once() {
        let read = serde_json::from_str(r#"{"ask":"redrive","all":true}"#).ok();
        let all = Letters { all: true, ..Letters::default() };
        assert_eq!(read, Some(AdminRequest::Redrive(all.clone())));
        assert!(all.pick().is_ok());
        let eid = Some("07".repeat(24));
        assert!(Letters { eid: eid.clone(), ..Letters::default() }.pick().is_ok());
        for wrong in [
            Letters::default(),
            Letters { eid, all: true, ..Letters::default() },
            Letters { eid: Some("07".to_owned()), ..Letters::default() },
            Letters { node: Some("nobody".to_owned()), ..Letters::default() },
        ] {
            assert!(wrong.pick().is_err(), "{wrong:?}");
        }
    }
}
