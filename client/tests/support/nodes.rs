//! The nodes' side of the world: what they answer to each frame, and how things travel between them.

use super::*;

impl<S: TestSealer> World<S> {
    pub(super) fn at_node(&mut self, index: usize, frame: ClientFrame, body: Bytes) {
        let node_id = self.devices[index].peer.node;
        match frame {
            ClientFrame::Hello(hello) => self.greet(index, hello),
            ClientFrame::Join(join) => {
                let list = join.list.peek().unwrap();
                let node = self.nodes.get_mut(&node_id).unwrap();
                node.users.insert(list.name.as_str().to_owned(), vec![join.list]);
                self.frame(
                    index,
                    NodeFrame::Joined(Joined { request: join.request }),
                    Bytes::new(),
                );
            }
            ClientFrame::Submit(submit) => self.submit(index, submit, body),
            ClientFrame::Received(received) => {
                let checked = received.proof.check().unwrap();
                assert_eq!(checked.statements.len(), received.items.len());
                let id = self.devices[index].hello.as_ref().unwrap().device;
                let node = self.nodes.get_mut(&node_id).unwrap();
                node.marks.insert(id, received.mine);
                let mut notes = Vec::new();
                for (item, (statement, proof)) in received.items.iter().zip(checked.statements) {
                    node.inbox.entry(id).or_default().remove(&item.inbox);
                    assert_eq!(statement.copy, Some(item.copy));
                    notes.push((statement, proof));
                }
                for (statement, proof) in notes {
                    note(&mut self.nodes, &self.origins, &statement, proof);
                }
            }
            ClientFrame::Noted(noted) => {
                let id = self.devices[index].hello.as_ref().unwrap().device;
                let node = self.nodes.get_mut(&node_id).unwrap();
                node.marks.insert(id, noted.mine);
                for number in noted.notes {
                    node.notes.entry(id).or_default().remove(&number);
                }
            }
            ClientFrame::FetchBundle(fetch) => {
                let node = self.nodes.get_mut(&fetch.node).unwrap();
                let Some(lists) = node.users.get(fetch.name.as_str()) else {
                    let what = Refusable::Request(fetch.request);
                    let refusal = RefusalCode::UnknownRecipient.into();
                    self.frame(index, NodeFrame::Refused(Refused { what, refusal }), Bytes::new());
                    return;
                };
                let from = fetch
                    .known_version
                    .map_or(lists.len() - 1, |v| usize::try_from(v + 1).unwrap());
                let answer = lists.iter().skip(from).cloned().collect();
                let mut bundles = Vec::new();
                for id in node.devices_of(fetch.name.as_str()) {
                    if let Some(bundle) = node.bundles.get(&id).filter(|_| fetch.with_bundles) {
                        let one_time = node.one_time.entry(id).or_default().pop();
                        bundles.push(Bundle { one_time, ..bundle.clone() });
                    }
                }
                let answer = Bundles { request: fetch.request, lists: answer, bundles };
                self.frame(index, NodeFrame::Bundles(answer), Bytes::new());
            }
            ClientFrame::PublishPrekeys(publish) => {
                let id = self.devices[index].hello.as_ref().unwrap().device;
                let node = self.nodes.get_mut(&node_id).unwrap();
                node.bundles.insert(id, publish.upload.fallback);
                node.one_time.insert(id, publish.upload.one_time);
                self.frame(index, NodeFrame::Done(Done { request: publish.request }), Bytes::new());
            }
            ClientFrame::PublishList(publish) => {
                let node = self.nodes.get_mut(&node_id).unwrap();
                let list = publish.list.peek().unwrap();
                let lists = node.users.get_mut(list.name.as_str()).unwrap();
                let known = CheckedList::first_seen(lists.last().unwrap()).unwrap();
                if known.then(&publish.list).is_err() {
                    let what = Refusable::Request(publish.request);
                    let refusal = RefusalCode::Conflict.into();
                    let refused = NodeFrame::Refused(Refused { what, refusal });
                    return self.frame(index, refused, Bytes::new());
                }
                lists.push(publish.list.clone());
                let tells = node.tells_of_lists;
                let mut gone = Vec::new();
                for device in known.list.devices.iter().map(|device| device.id()) {
                    if list.devices.iter().all(|kept| kept.id() != device) {
                        for (_, (deliver, body)) in node.inbox.remove(&device).unwrap_or_default() {
                            let reason = Some(Reason::DeviceRemoved);
                            let mut failed =
                                statement(Claim::Failed, deliver.eid, self.now_ms, reason);
                            let hash = shared_hash(&body);
                            failed.copy =
                                Some(deliver.target.copy_id(&deliver.header.hash(), &hash));
                            gone.push(failed);
                        }
                    }
                }
                for failed in gone {
                    self.say(node_id, &failed);
                }
                self.frame(index, NodeFrame::Done(Done { request: publish.request }), Bytes::new());
                if tells {
                    self.tell_of_list(index, &publish.list);
                }
            }
            ClientFrame::ShowLists(show) => self.take_shown(index, show),
            // Answered by the tests that ask.
            ClientFrame::Resolve(_) => {}
            ClientFrame::Ping(ping) => self.frame(index, NodeFrame::Pong(ping), Bytes::new()),
        }
    }

    /// All that are missing, or none.
    fn take_shown(&mut self, index: usize, show: ShowLists) {
        let request = show.request;
        let node = self.nodes.get_mut(&self.devices[index].peer.node).unwrap();
        if node.skips_lists {
            return;
        }
        let name = show.lists[0].peek().unwrap().name.as_str().to_owned();
        let known = node.users.get(&name).cloned().unwrap_or_default();
        let version = |list: &Signed<DeviceList>| list.peek().unwrap().version;
        let have = known.len() as u64;
        let code = if known.is_empty() && show.invite.is_none() {
            Some(RefusalCode::BadInvite)
        } else {
            (version(&show.lists[0]) > have).then_some(RefusalCode::Conflict)
        };
        let frame = match code {
            Some(code) => {
                let what = Refusable::Request(request);
                NodeFrame::Refused(Refused { what, refusal: code.into() })
            }
            None => {
                let new = show.lists.into_iter().filter(|list| version(list) >= have);
                node.users.entry(name).or_default().extend(new);
                NodeFrame::Done(Done { request })
            }
        };
        self.frame(index, frame, Bytes::new());
    }

    fn tell_of_list(&mut self, publisher: usize, list: &Signed<DeviceList>) {
        let peer = self.devices[publisher].peer.clone();
        for index in (0..self.devices.len()).filter(|index| *index != publisher) {
            let device = &self.devices[index];
            if device.peer == peer && device.online && device.hello.is_some() {
                let newer = NewerLists { lists: vec![list.clone()] };
                self.frame(index, NodeFrame::NewerLists(newer), Bytes::new());
            }
        }
    }

    fn greet(&mut self, index: usize, hello: ClientHello) {
        let device = &self.devices[index];
        let challenge = device.challenge.clone().unwrap();
        let now_ms = self.now_ms + self.nodes_ahead_ms;
        let node = self.nodes.get_mut(&device.peer.node).unwrap();
        let Some(lists) = node.lists_of(&hello.device) else {
            let what = Refusable::Link(0);
            let refusal = RefusalCode::NotAuthorised.into();
            self.frame(index, NodeFrame::Refused(Refused { what, refusal }), Bytes::new());
            return;
        };
        let list = CheckedList::first_seen(lists.last().unwrap()).unwrap();
        let list_version = list.list.version;
        let addresses = Addresses {
            node: node.id,
            serial: 1,
            transports: Vec::new(),
            state: NodeState::Serving,
            expires_ms: now_ms + ADDRESSES_LIFE_MS_MAX,
        };
        let mut welcome = Welcome {
            descriptor: Descriptor::sign(delegation(node), &addresses, &node.op),
            incarnation: node.incarnation,
            mine: node.mark(),
            yours: node.marks.get(&hello.device).cloned(),
            time_ms: now_ms,
            one_time_left: node.one_time.get(&hello.device).map_or(0, |keys| keys.len() as u64),
            list_version,
            signature: Signature([0; 64]),
        };
        let transcript = node_transcript(&challenge, &hello, &welcome);
        welcome.signature = node.op.sign(Purpose::NodeHello, transcript.as_bytes());
        node.marks.insert(hello.device, hello.mine.clone());
        self.devices[index].hello = Some(hello);
        self.frame(index, NodeFrame::Welcome(welcome), Bytes::new());
    }

    fn submit(&mut self, index: usize, submit: Submit, body: Bytes) {
        let node_id = self.devices[index].peer.node;
        let sender = self.devices[index].hello.as_ref().unwrap().device;
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&node_id).unwrap();
        node.marks.insert(sender, submit.mine.clone());
        if let Some(code) = node.refuse {
            let what = Refusable::Submit(submit.submit);
            self.frame(
                index,
                NodeFrame::Refused(Refused { what, refusal: code.into() }),
                Bytes::new(),
            );
            return;
        }
        let hash = shared_hash(&body);
        let ids: Vec<_> = submit.heads.iter().map(|head| head.ids(&hash)).collect();
        let statements: Vec<_> =
            ids.iter().map(|(eid, _)| statement(Claim::Accepted, *eid, now_ms, None)).collect();
        let proof = node.sign(&statements);
        let mark = node.mark();
        node.accepted += 1;
        let eids: Vec<Eid> = ids.iter().map(|(eid, _)| *eid).collect();
        let known = node.submits.insert(submit.submit, eids.clone());
        let account = node.account_devices(&sender);
        if let Some(known) = known {
            assert_eq!(known, eids, "one submission, two contents");
        } else {
            for (head, eid) in submit.heads.iter().zip(&eids) {
                head.check(body.len()).unwrap();
                self.origins.insert(*eid, (node_id, account.clone()));
                self.arrive(index, head, *eid, &body);
            }
        }
        let accepted = Accepted { submit: submit.submit, proof, mark };
        self.frame(index, NodeFrame::Accepted(accepted), Bytes::new());
    }

    fn arrive(
        &mut self,
        sender: usize,
        head: &tidings_protocol::envelope::EnvelopeHead,
        eid: Eid,
        body: &Bytes,
    ) {
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&head.header.destination).unwrap();
        let mut stale = None;
        let mut gone = Vec::new();
        for target in &head.targets {
            let device = target.device().unwrap();
            let Some(lists) = node.lists_of(&device) else {
                let (_, copies) = head.ids(&shared_hash(body));
                let place = head.targets.iter().position(|t| t == target).unwrap();
                let mut failed =
                    statement(Claim::Failed, eid, now_ms, Some(Reason::UnknownRecipient));
                failed.copy = Some(copies[place]);
                gone.push(failed);
                continue;
            };
            let newest = CheckedList::first_seen(lists.last().unwrap()).unwrap();
            if newest.list.version > target.list_version {
                let from = usize::try_from(target.list_version + 1).unwrap();
                stale = Some(lists.iter().skip(from).cloned().collect::<Vec<_>>());
            }
            let inbox = node.number();
            let header = head.header.clone();
            let deliver = Deliver { inbox, eid, header, target: target.clone() };
            node.inbox.entry(device).or_default().insert(inbox, (deliver, body.clone()));
        }
        for failed in gone {
            let proof = self.nodes[&head.header.destination].sign(core::slice::from_ref(&failed));
            note(&mut self.nodes, &self.origins, &failed, proof);
        }
        let at_dest = statement(Claim::AtDest, eid, now_ms, None);
        let node = &self.nodes[&head.header.destination];
        let proof = node.sign(core::slice::from_ref(&at_dest));
        note(&mut self.nodes, &self.origins, &at_dest, proof);
        if let Some(lists) = stale {
            self.frame(sender, NodeFrame::NewerLists(NewerLists { lists }), Bytes::new());
        }
    }

    /// The rows of a device's sessions as they stand.
    pub(crate) fn sessions(&self, index: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let device = &self.devices[index];
        device
            .store
            .view(&mut |txn| {
                rows = txn.range(tidings_client::schema::DEVICES, &[], &[0xff; 32], 100)?;
                Ok(())
            })
            .unwrap();
        rows
    }

    pub(crate) fn restore_sessions(&mut self, index: usize, rows: &[(Vec<u8>, Vec<u8>)]) {
        let device = &mut self.devices[index];
        device
            .store
            .batch(&mut |txn| {
                for (key, value) in rows {
                    txn.put(tidings_client::schema::DEVICES, key, value)?;
                }
                Ok(())
            })
            .unwrap();
    }

    /// A node's statement about an envelope goes to those who sent it.
    pub(crate) fn say(&mut self, node: NodeId, statement: &Statement) {
        self.say_for(node, node, statement);
    }

    /// The same in the name of a node, by the key of one that may be another.
    pub(crate) fn say_for(&mut self, node: NodeId, signer: NodeId, statement: &Statement) {
        let proof = self.nodes[&signer].sign_for(node, core::slice::from_ref(statement));
        note(&mut self.nodes, &self.origins, statement, proof);
    }
}

pub(crate) fn note(
    nodes: &mut BTreeMap<NodeId, FakeNode>,
    origins: &BTreeMap<Eid, (NodeId, BTreeSet<DeviceId>)>,
    statement: &Statement,
    proof: Proof,
) {
    let Some((origin, devices)) = origins.get(&statement.eid) else { return };
    let node = nodes.get_mut(origin).unwrap();
    for device in devices {
        let number = node.number();
        node.notes.entry(*device).or_default().insert(number, proof.clone());
    }
}
