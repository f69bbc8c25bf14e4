//! Three real cores on memory stores, with links that break and frames that are late, and a phone at
//! each that remembers what it was told. Tests nothing by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tidings_core::{
    effect::AdminReply,
    event::{AdminCommand, AdminToken, ConnId, Event, LinkId, PeerChange},
    ingress::{Read, read_peer_frame},
    settings::{CustodyTerms, Settings},
};
use tidings_protocol::{
    client_frame::{ClientFrame, NodeFrame, Noted, Received, ReceivedItem, Refusable},
    codec,
    envelope::shared_hash,
    frame::Frame,
    id::{BootId, Eid, NodeId, SubmitId},
    limits,
    peer_frame::PeerFrame,
    refusal::RefusalCode,
    statement::{Claim, Proof, Reason, Signer, Stance, Statement},
};
use tidings_store::MemDisk;

use crate::support::{NOW_MS, Node, Phone, identity, identity_with, mark, submission};

/// Seeds of the nodes; the phone of each has the seed behind its own.
pub(crate) const SEEDS: [u8; 3] = [10, 20, 50];
const PHONES: [(&str, u8); 3] = [("alice", 30), ("bob", 40), ("carol", 60)];
pub(crate) const ACME: usize = 0;
pub(crate) const GLOBEX: usize = 1;
pub(crate) const INITECH: usize = 2;

/// A message as its sender knows it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) number: u64,
    pub(crate) accepted: bool,
    pub(crate) refused: Option<RefusalCode>,
    pub(crate) failed: Option<Option<Reason>>,
    pub(crate) delivered: bool,
}

pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    phones: Vec<Phone>,
    disks: Vec<MemDisk>,
    boots: u8,
    pub(crate) now_ms: u64,
    /// Open links and their ends.
    pub(crate) links: BTreeMap<u64, (usize, usize)>,
    last_link: u64,
    last_conn: u64,
    /// To whom, on which link, and what; nothing for its end.
    wires: VecDeque<(usize, u64, Option<Frame>)>,
    pub(crate) messages: BTreeMap<Eid, Message>,
    submits: BTreeMap<SubmitId, Eid>,
    /// Everything that left acme since the last look.
    pub(crate) from_acme: Vec<(usize, PeerFrame)>,
    pub(crate) received: Vec<(Eid, usize)>,
}

/// Both acme and globex name initech as their custodian.
fn settings(place: usize) -> (NodeId, Settings) {
    let (initech, _) = identity(SEEDS[INITECH]);
    if place != INITECH {
        return identity_with(SEEDS[place], vec![initech]);
    }
    let (id, mut settings) = identity(SEEDS[INITECH]);
    settings.custody = [ACME, GLOBEX]
        .map(|place| CustodyTerms {
            node: identity(SEEDS[place]).0,
            rows: 1_000,
            bytes: 1 << 30,
            life_ms: limits::MESSAGE_LIFE_MS_MAX,
            users: 0,
        })
        .to_vec();
    (id, settings)
}

impl Net {
    pub(crate) fn new() -> Self {
        let disks: Vec<MemDisk> = SEEDS.iter().map(|_| MemDisk::new()).collect();
        let mut nodes: Vec<Node> =
            (0..3).map(|n| Node::open_as(SEEDS[n], settings(n), &disks[n], 1, NOW_MS)).collect();
        let phones = PHONES
            .iter()
            .zip(&mut nodes)
            .map(|((name, seed), node)| Phone::join(node, name, *seed))
            .collect();
        let mut net = Self {
            nodes,
            phones,
            disks,
            boots: 1,
            now_ms: NOW_MS,
            links: BTreeMap::new(),
            last_link: 0,
            last_conn: 1_000,
            wires: VecDeque::new(),
            messages: BTreeMap::new(),
            submits: BTreeMap::new(),
            from_acme: Vec::new(),
            received: Vec::new(),
        };
        // Everybody has met, so that the agreements are known.
        net.connect_all();
        net.carry(usize::MAX);
        net
    }

    pub(crate) fn id(&self, place: usize) -> NodeId {
        self.nodes[place].id
    }

    pub(crate) fn give(&mut self, place: usize, event: Event) {
        self.nodes[place].give([event]);
        self.collect(place);
    }

    /// Takes what a node has sent and closed.
    fn collect(&mut self, place: usize) {
        self.nodes[place].to_peer.clear();
        let frames = std::mem::take(&mut self.nodes[place].to_links);
        for (LinkId(link), frame) in frames {
            let Some(ends) = self.links.get(&link) else {
                assert_ne!(place, ACME, "acme says something on a link that has ended: {frame:?}");
                continue;
            };
            let other = if ends.0 == place { ends.1 } else { ends.0 };
            if place == ACME {
                self.from_acme.push((other, codec::decode(&frame.header).unwrap()));
            }
            self.wires.push_back((other, link, Some(frame)));
        }
        for LinkId(link) in std::mem::take(&mut self.nodes[place].closed) {
            if let Some((one, other)) = self.links.remove(&link) {
                self.wires.push_back((if one == place { other } else { one }, link, None));
            }
        }
    }

    pub(crate) fn connect(&mut self, one: usize, other: usize) {
        let is_there = |ends: &(usize, usize)| *ends == (one, other) || *ends == (other, one);
        if self.links.values().any(is_there) {
            return;
        }
        self.last_link += 1;
        self.links.insert(self.last_link, (one, other));
        let link = LinkId(self.last_link);
        for (place, peer, dialer) in [(one, other, true), (other, one, false)] {
            let transport = Bytes::from(vec![SEEDS[peer]; 34]);
            self.give(place, Event::PeerConnected { link, transport, dialer });
        }
    }

    pub(crate) fn connect_all(&mut self) {
        for (one, other) in [(ACME, GLOBEX), (GLOBEX, INITECH), (INITECH, ACME)] {
            self.connect(one, other);
        }
    }

    pub(crate) fn part(&mut self, one: usize, other: usize) {
        let broken: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, ends)| **ends == (one, other) || **ends == (other, one))
            .map(|(link, _)| *link)
            .collect();
        for link in broken {
            self.links.remove(&link);
            self.wires.retain(|(_, on, _)| *on != link);
            for place in [one, other] {
                self.give(place, Event::PeerClosed { link: LinkId(link) });
            }
        }
    }

    /// A peer sends acme what is no frame.
    pub(crate) fn break_protocol(&mut self, place: usize) {
        let is_its = |(_, ends): &(&u64, &(usize, usize))| {
            **ends == (place, ACME) || **ends == (ACME, place)
        };
        let link = self.links.iter().find(is_its).map(|(link, _)| LinkId(*link)).expect("a link");
        self.give(ACME, Event::PeerBroke { link, code: RefusalCode::Malformed });
        self.carry(usize::MAX);
    }

    /// Carries so many frames, in their order.
    pub(crate) fn carry(&mut self, max: usize) {
        for _ in 0..max {
            let Some((to, link, frame)) = self.wires.pop_front() else { return };
            let link = LinkId(link);
            let opener = &self.nodes[to].opener;
            let event = match frame.map(|frame| read_peer_frame(&frame, self.now_ms, opener)) {
                None => Event::PeerClosed { link },
                Some(Read::Input(input)) => Event::Peer { link, input },
                Some(other) => panic!("the frame was not taken: {other:?}"),
            };
            self.give(to, event);
        }
    }

    /// Time goes on, by as many ticks as the cores ask for.
    pub(crate) fn wait(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        let mut steps = 0;
        while self.now_ms < until_ms {
            let next = self.nodes.iter().filter_map(|node| node.core.next_deadline()).min();
            self.now_ms = next.unwrap_or(until_ms).clamp(self.now_ms + 1, until_ms);
            for place in 0..3 {
                self.nodes[place].now_ms = self.now_ms;
                self.give(place, Event::Tick);
            }
            self.carry(usize::MAX);
            steps += 1;
            assert!(steps < 20_000, "a deadline comes again and again");
        }
    }

    pub(crate) fn write(&mut self, from: usize, to: usize) -> Eid {
        let number = self.messages.len() as u64 + 1;
        let mut head = self.phones[to].envelope(self.id(from), self.id(to), number);
        head.header.created_ms = self.now_ms;
        head.header.expires_ms = self.now_ms + limits::MESSAGE_LIFE_MS_MAX;
        let body = Bytes::from_static(b"sealed");
        let (eid, _) = head.ids(&shared_hash(&body));
        let message = Message {
            from,
            to,
            number,
            accepted: false,
            refused: None,
            failed: None,
            delivered: false,
        };
        self.messages.insert(eid, message);
        let frame = submission(head, number);
        let ClientFrame::Submit(submit) = &frame else { panic!("no submission") };
        self.submits.insert(submit.submit, eid);
        let conn = self.phones[from].conn;
        self.nodes[from].send(conn, &frame, body);
        self.collect(from);
        self.listen(from);
        eid
    }

    /// The phone takes everything that its node says, and answers.
    pub(crate) fn listen(&mut self, place: usize) {
        let conn = self.phones[place].conn;
        while let Some((frame, body)) =
            self.nodes[place].to_clients.get_mut(&conn).and_then(VecDeque::pop_front)
        {
            match frame {
                NodeFrame::Accepted(accepted) => {
                    let eid = self.submits[&accepted.submit];
                    self.messages.get_mut(&eid).unwrap().accepted = true;
                }
                NodeFrame::Refused(refused) => {
                    if let Refusable::Submit(submit) = refused.what {
                        let message = self.messages.get_mut(&self.submits[&submit]).unwrap();
                        message.refused = Some(refused.refusal.code);
                    }
                }
                NodeFrame::Deliver(deliver) => {
                    let copy = deliver.target.copy_id(&deliver.header.hash(), &shared_hash(&body));
                    self.received.push((deliver.eid, place));
                    let statement = Statement {
                        claim: Claim::Delivered,
                        eid: deliver.eid,
                        copy: Some(copy),
                        at_ms: self.now_ms,
                        reason: None,
                        until_ms: None,
                    };
                    let item = ReceivedItem { inbox: deliver.inbox, copy };
                    self.acknowledge(place, item, &statement);
                }
                NodeFrame::Notes(notes) => {
                    for proof in &notes.proofs {
                        for (statement, _) in &proof.check().unwrap().statements {
                            self.note(statement);
                        }
                    }
                    let noted = Noted { notes: notes.notes, mine: mark(1_000) };
                    self.nodes[place].send(conn, &ClientFrame::Noted(noted), Bytes::new());
                    self.collect(place);
                }
                _ => {}
            }
        }
    }

    /// The phone asks its node something.
    pub(crate) fn ask(&mut self, place: usize, frame: &ClientFrame) {
        let conn = self.phones[place].conn;
        self.nodes[place].send(conn, frame, Bytes::new());
        self.collect(place);
    }

    fn acknowledge(&mut self, place: usize, item: ReceivedItem, statement: &Statement) {
        let phone = &self.phones[place];
        let signer = Signer { key: phone.key.public(), node: None, version: 0 };
        let stance = Stance { signer, incarnation: 1, boot: BootId([1; 16]) };
        let proof = Proof::sign(core::slice::from_ref(statement), &stance, &[7; 32], &phone.key);
        let received = Received { items: vec![item], proof: proof.unwrap(), mine: mark(1_000) };
        let conn = phone.conn;
        self.nodes[place].send(conn, &ClientFrame::Received(received), Bytes::new());
        self.collect(place);
    }

    fn note(&mut self, statement: &Statement) {
        let Some(message) = self.messages.get_mut(&statement.eid) else { return };
        match statement.claim {
            Claim::Failed => message.failed = Some(statement.reason),
            Claim::Delivered => message.delivered = true,
            _ => {}
        }
    }

    pub(crate) fn admin(&mut self, place: usize, command: AdminCommand) -> AdminReply {
        self.give(place, Event::Admin { token: AdminToken(1), command });
        self.nodes[place].replies.pop().expect("an answer")
    }

    pub(crate) fn change(&mut self, about: usize, change: PeerChange) {
        let command =
            AdminCommand::ChangePeer { node: self.id(about), change, note: String::new() };
        assert_eq!(self.admin(ACME, command), AdminReply::Done);
    }

    /// acme's process ends, and another one begins on the same disk.
    pub(crate) fn restart_acme(&mut self) {
        for other in [GLOBEX, INITECH] {
            self.part(ACME, other);
        }
        self.boots += 1;
        self.last_conn += 1;
        let (boots, now_ms) = (self.boots, self.now_ms);
        let disk = &self.disks[ACME];
        self.nodes[ACME] = Node::open_as(SEEDS[ACME], settings(ACME), disk, boots, now_ms);
        let phone = self.phones.remove(ACME);
        let (phone, _) = phone.again(&mut self.nodes[ACME], ConnId(self.last_conn));
        self.phones.insert(ACME, phone);
        self.collect(ACME);
    }

    /// What acme has said to its peers since the last look.
    pub(crate) fn said(&mut self) -> Vec<(usize, PeerFrame)> {
        std::mem::take(&mut self.from_acme)
    }

    pub(crate) fn dialled(&mut self, place: usize) -> BTreeSet<usize> {
        let dials = std::mem::take(&mut self.nodes[place].dials);
        let lookups = std::mem::take(&mut self.nodes[place].lookups);
        let place_of = |node: NodeId| (0..3).find(|place| self.id(*place) == node);
        dials.into_iter().chain(lookups).filter_map(place_of).collect()
    }

    /// Everything is linked and carried, for as long as something moves.
    pub(crate) fn rest(&mut self) {
        for _ in 0..12 {
            self.connect_all();
            self.carry(usize::MAX);
            for place in 0..3 {
                self.listen(place);
            }
            self.wait(61_000);
        }
        for place in 0..3 {
            self.listen(place);
        }
    }
}
