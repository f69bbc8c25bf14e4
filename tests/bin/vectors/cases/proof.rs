//! Statements and the proofs that carry them.

use bytes::Bytes;
use tidings_protocol::{
    codec,
    id::{CopyId, Hash},
    key::{Purpose, SecretKey},
    statement::{BatchRoot, Claim, Proof, Reason, Stance, Statement},
};

use super::{
    Case,
    cast::{NOW_MS, Who, accepted, acme_stance, bob_stance, delivered, fill, sign, statement},
    cbor,
};

pub(crate) fn cases() -> Vec<Case> {
    [statements(), taken(), forged_leaves(), forged_roots(), odd_insides(), broken()].concat()
}

fn statements() -> Vec<Case> {
    let ok = |reason: &str, why: &str, statement: &Statement| {
        Case::new("statement", reason, "ok", why, codec::encode(statement))
            .result("claim", statement.claim.name())
    };
    let full = Statement {
        copy: Some(CopyId(fill(1))),
        reason: Some(Reason::Expired),
        until_ms: Some(NOW_MS),
        ..statement(Claim::Failed)
    };
    let bytes = codec::encode(&full);
    let mut all: Vec<Case> = Claim::ALL
        .iter()
        .map(|claim| ok(&claim.name().to_lowercase(), "A claim.", &statement(*claim)))
        .collect();
    all.push(ok("every_field", "A failure of one copy.", &full));
    let number = |reason: &str, why: &str, value: &[u8]| {
        let bytes = cbor::with_first_value(&bytes, 0, value);
        Case::new("statement", reason, "malformed", why, bytes)
    };
    all.push(number("unknown_claim", "No claim has the number 9.", &[9]));
    all.push(number("claim_zero", "No claim has the number 0.", &[0]));
    all.push(number("negative_claim", "Numbers are unsigned.", &[0x20]));
    all.push(number("giant_claim", "A number of 64 bits.", &[0x1b, 1, 0, 0, 0, 0, 0, 0, 1]));
    all.extend(cbor::broken("statement", "", &bytes, 0));
    all.extend(cbor::odd("statement", "", &bytes, 0, false));
    all
}

fn case(reason: &str, expect: &'static str, why: &str, proof: &Proof) -> Case {
    Case::new("proof", reason, expect, why, codec::encode(proof))
}

fn five() -> Proof {
    let all: Vec<_> = (0..5).map(|n| numbered(Claim::Delivered, n)).collect();
    sign(&all, &bob_stance(), Who::BobPhone)
}

fn numbered(claim: Claim, n: u8) -> Statement {
    Statement { copy: Some(CopyId(fill(n))), ..statement(claim) }
}

fn taken() -> Vec<Case> {
    let ok = |reason: &str, why: &str, proof: &Proof| {
        let checked = proof.check().expect("a proof that holds");
        let claims: Vec<_> = checked.statements.iter().map(|(s, _)| s.claim.name()).collect();
        case(reason, "ok", why, proof)
            .result("claims", claims.join(" "))
            .result("root", checked.root.root)
    };
    let mut fourth = five();
    fourth.leaves = vec![fourth.leaves[3].clone()];
    let failed = Statement { reason: Some(Reason::Expired), ..statement(Claim::Failed) };
    let custody = Statement { until_ms: Some(NOW_MS + 1), ..statement(Claim::Custody) };
    let by_acme = [statement(Claim::Accepted), custody, failed, statement(Claim::Closed)];
    vec![
        ok("accepted", "One statement by a node: its root is its leaf.", &accepted()),
        ok("delivered", "One statement by a device.", &delivered()),
        ok("five", "A batch of five.", &five()),
        ok("fourth_of_five", "One of them alone, with the path.", &fourth),
        ok(
            "by_a_node",
            "Four claims that a node may make.",
            &sign(&by_acme, &acme_stance(), Who::Acme),
        ),
    ]
}

fn forged_leaves() -> Vec<Case> {
    let with = |change: fn(&mut Proof)| {
        let mut proof = five();
        change(&mut proof);
        proof
    };
    vec![
        case(
            "forged_leaf",
            "path",
            "Another statement in a true place.",
            &with(|p| p.leaves[1].statement = codec::encode(&numbered(Claim::Delivered, 9)).into()),
        ),
        case("wrong_salt", "path", "Another salt.", &with(|p| p.leaves[1].salt.0[0] ^= 1)),
        case(
            "wrong_path",
            "path",
            "A sibling is another.",
            &with(|p| p.leaves[1].path[0].0[0] ^= 1),
        ),
        case(
            "path_reversed",
            "path",
            "Farthest sibling first.",
            &with(|p| p.leaves[1].path.reverse()),
        ),
        case(
            "short_path",
            "path",
            "A sibling is missing.",
            &with(|p| p.leaves[1].path.truncate(1)),
        ),
        case(
            "long_path",
            "path",
            "One sibling too many.",
            &with(|p| p.leaves[1].path.push(Hash(fill(1)))),
        ),
        case("wrong_index", "path", "The place of another leaf.", &with(|p| p.leaves[1].index = 2)),
        case(
            "index_outside",
            "path",
            "The tree has five leaves.",
            &with(|p| p.leaves[4].index = 5),
        ),
        case("giant_index", "path", "The largest index.", &with(|p| p.leaves[1].index = u32::MAX)),
        case(
            "one_bad_of_five",
            "path",
            "Nothing of a proof with a bad leaf is believed.",
            &with(|p| p.leaves[4].path[0].0[31] ^= 1),
        ),
        case("no_leaf", "size", "A root alone proves nothing.", &with(|p| p.leaves.clear())),
    ]
}

/// The proof with another root, signed again by `key`.
fn resigned(proof: &Proof, key: &SecretKey, purpose: Purpose, change: fn(&mut BatchRoot)) -> Proof {
    let mut root: BatchRoot = codec::decode(&proof.root).expect("our own root");
    change(&mut root);
    let root = codec::encode(&root);
    Proof { signature: key.sign(purpose, &root), root: root.into(), leaves: proof.leaves.clone() }
}

fn forged_roots() -> Vec<Case> {
    let bob = Who::BobPhone.key();
    let mut bent = delivered();
    bent.signature.0[5] ^= 1;
    let by_mallory = resigned(&delivered(), &Who::Mallory.key(), Purpose::DeviceStatements, |_| ());
    let mut changed = delivered();
    let root = resigned(&changed, &bob, Purpose::DeviceStatements, |root| root.incarnation += 1);
    changed.root = root.root;
    let as_node = resigned(&delivered(), &bob, Purpose::NodeStatements, |_| ());
    let as_list = resigned(&delivered(), &bob, Purpose::DeviceList, |_| ());
    let not_a_key = resigned(&delivered(), &bob, Purpose::DeviceStatements, |root| {
        root.signer.key.0 = [2; 32];
    });
    let weak_key = resigned(&delivered(), &bob, Purpose::DeviceStatements, |root| {
        root.signer.key.0 = [0; 32];
    });
    let none = resigned(&delivered(), &bob, Purpose::DeviceStatements, |root| root.size = 0);
    let giant = resigned(&delivered(), &bob, Purpose::DeviceStatements, |root| root.size = 1025);
    let other_size = resigned(&five(), &bob, Purpose::DeviceStatements, |root| root.size = 6);
    let by_device = |claim| sign(&[numbered(claim, 1)], &bob_stance(), Who::BobPhone);
    let by_node = |claim| sign(&[numbered(claim, 1)], &acme_stance(), Who::Acme);
    vec![
        case("bent_signature", "signature", "One bit of the signature.", &bent),
        case(
            "other_key",
            "signature",
            "Signed by Mallory in the name of Bob's phone.",
            &by_mallory,
        ),
        case("root_changed", "signature", "The root names another incarnation.", &changed),
        case("purpose_of_nodes", "signature", "A device's root, signed as a node signs.", &as_node),
        case("purpose_of_lists", "signature", "Signed as a device list.", &as_list),
        case("not_a_key", "signature", "The signer's key is no point of the curve.", &not_a_key),
        case("weak_key", "signature", "The signer's key has small order.", &weak_key),
        case("empty_tree", "path", "A tree of no leaves has no place.", &none),
        case("too_large_a_tree", "size", "1,025 leaves under one root.", &giant),
        case("other_size", "path", "The root says six of five.", &other_size),
        case(
            "node_claims_delivered",
            "wrong_signer",
            "Only a device may.",
            &by_node(Claim::Delivered),
        ),
        case("node_claims_read", "wrong_signer", "Only a device may.", &by_node(Claim::Read)),
        case(
            "node_claims_undecryptable",
            "wrong_signer",
            "Only a device may.",
            &by_node(Claim::Undecryptable),
        ),
        case(
            "device_claims_accepted",
            "wrong_signer",
            "Only a node may.",
            &by_device(Claim::Accepted),
        ),
        case("device_claims_failed", "wrong_signer", "Only a node may.", &by_device(Claim::Failed)),
        case("device_claims_closed", "wrong_signer", "Only a node may.", &by_device(Claim::Closed)),
    ]
}

/// One leaf with any bytes as statement, truly signed.
fn of_bytes(statement: &[u8], stance: &Stance, key: &SecretKey) -> Proof {
    let mut proof = delivered();
    let salt = proof.leaves[0].salt;
    proof.leaves[0].statement = Bytes::copy_from_slice(statement);
    let root = codec::encode(&BatchRoot {
        signer: stance.signer.clone(),
        incarnation: stance.incarnation,
        boot: stance.boot,
        size: 1,
        root: tidings_protocol::merkle::leaf_hash(&salt.0, statement),
    });
    proof.signature = key.sign(Purpose::DeviceStatements, &root);
    proof.root = root.into();
    proof
}

/// Truly signed bytes that are not in canonical form, as root and as statement.
fn odd_insides() -> Vec<Case> {
    let bob = Who::BobPhone.key();
    let statement = codec::encode(&statement(Claim::Delivered));
    let root = delivered().root;
    let with_root = |root: Vec<u8>| Proof {
        signature: bob.sign(Purpose::DeviceStatements, &root),
        root: root.into(),
        leaves: delivered().leaves,
    };
    let mut all = Vec::new();
    for odd in cbor::odd("proof", "root", &root, 0, false) {
        all.push(Case { bytes: codec::encode(&with_root(odd.bytes.clone())), ..odd });
    }
    for odd in cbor::odd("proof", "statement", &statement, 0, false) {
        let proof = of_bytes(&odd.bytes, &bob_stance(), &bob);
        all.push(Case { bytes: codec::encode(&proof), ..odd });
    }
    let trailing = [&*statement, &[0]].concat();
    all.push(case(
        "statement_trailing",
        "trailing",
        "A byte follows a signed statement.",
        &of_bytes(&trailing, &bob_stance(), &bob),
    ));
    all.push(case(
        "root_trailing",
        "trailing",
        "A byte follows a signed root.",
        &with_root([&*root, &[0]].concat()),
    ));
    all
}

fn broken() -> Vec<Case> {
    let bytes = codec::encode(&delivered());
    [cbor::broken("proof", "", &bytes, 0), cbor::odd("proof", "", &bytes, 0, true)].concat()
}
