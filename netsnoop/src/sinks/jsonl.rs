//! One JSON object a line: the record for machines. Times are UTC whatever the node's zone is.

use std::io::{self, Write};

use netsnoop_core::connection::ConnectionRecord;
use serde::Serialize;
use serde_json::Serializer;

use crate::clock::WallClock;
use crate::sinks::Sink;
use crate::sinks::escape::TerminalSafeJson;
use crate::sinks::schema::{EndUsers, Record};
use crate::sinks::user_names::UserNames;

/// Writes records as JSON lines.
pub(super) struct JsonlSink<W> {
    out: W,
    names: UserNames,
    line: Vec<u8>,
}

impl<W: Write> JsonlSink<W> {
    /// Writes to `out`.
    pub(super) const fn new(out: W, names: UserNames) -> Self {
        Self { out, names, line: Vec::new() }
    }
}

impl<W: Write> Sink for JsonlSink<W> {
    fn write(&mut self, record: &ConnectionRecord, clock: WallClock) -> io::Result<()> {
        let users = EndUsers::of(record, &mut self.names);
        // A line goes out whole or not at all, as far as that is ours to decide.
        self.line.clear();
        let mut serializer = Serializer::with_formatter(&mut self.line, TerminalSafeJson);
        Record::new(record, &users, clock).serialize(&mut serializer).map_err(io::Error::from)?;
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use jsonschema::Validator;
    use netsnoop_core::attribution::{Attribution, Evidence, Level, Reason, Rung};
    use netsnoop_core::connection::{ConnectionState, IoSource, RecordEvent, Role};
    use netsnoop_core::five_tuple::Transport;
    use netsnoop_core::process::Comm;
    use netsnoop_core::service::{LearntName, NameKind};
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::sinks::escape;
    use crate::sinks::samples;

    fn schema() -> Value {
        serde_json::from_str(include_str!("../../../docs/schema/connection-v1.schema.json")).unwrap()
    }

    fn line(record: &ConnectionRecord) -> String {
        let mut out = Vec::new();
        JsonlSink::new(&mut out, UserNames::none()).write(record, samples::clock()).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn check_valid(validator: &Validator, line: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        validator.validate(&value).map_err(|error| format!("{error} at {} in {line}", error.instance_path()))
    }

    #[test]
    fn everything_known_is_this_line() {
        let expected = concat!(
            r#"{"schema_version":1,"event":"close","timestamp":"2026-11-21T20:01:03.623456789Z","#,
            r#""connection":{"id":"9f3a000000000001","start":"2026-11-21T20:01:02.123456789Z","state":"closed","#,
            r#""role":"syn","rungs":["sockops"],"duration_ns":1500000000},"#,
            r#""network":{"transport":"tcp","type":"ipv4","community_id":"1:kmJeIsWeKhjEqQz3ZLQCxfv5nNg=","interface":"veth0"},"#,
            r#""client":{"address":"198.18.1.10","port":54102,"netns":{"inode":4026532178,"cookie":7},"#,
            r#""process":{"pid":29786,"start_time":"2026-11-21T20:00:12.340000000Z","name":"curl","#,
            r#""executable":{"path":"/usr/bin/curl"}},"user":{"id":10001},"#,
            r#""container":{"id":"4f9c2d7e1a8b3c5d6e0f4f9c2d7e1a8b3c5d6e0f4f9c2d7e1a8b3c5d6e0f4f9c","#,
            r#""runtime":"containerd","user":{"id":33,"name":"www-data"}},"k8s":{"namespace":{"name":"tools"},"#,
            r#""pod":{"uid":"11111111-2222","name":"web-1","label":{"app.kubernetes.io/name":"web"}},"container":{"name":"app"}},"#,
            r#""attribution":{"level":"process","evidence":"kernel_event"}},"#,
            r#""server":{"address":"198.18.1.13","port":6379,"#,
            r#""process":{"pid":800,"start_time":"2026-11-21T20:00:12.340000000Z","name":"redis-server"},"#,
            r#""user":{"id":999},"attribution":{"level":"process","evidence":"listener"}},"#,
            r#""service":{"name":"redis","rule":"198.18.1.13:6379"},"io":{"sent_bytes":16,"received_bytes":2048,"source":"kernel_event"}}"#,
            "\n"
        );
        assert_eq!(line(&samples::between_two_processes()), expected);
    }

    #[test]
    fn what_is_unknown_is_absent_and_why_is_said() {
        let expected = concat!(
            r#"{"schema_version":1,"event":"open","timestamp":"2026-11-21T20:01:02.123456789Z","#,
            r#""connection":{"id":"9f3a000000000001","start":"2026-11-21T20:01:02.123456789Z","state":"refused","#,
            r#""role":"syn","rungs":["proc"],"duration_ns":0},"#,
            r#""network":{"transport":"tcp","type":"ipv4","community_id":"1:vyAgR0fU1wC+/PzA+IAdAkc6W/Q="},"#,
            r#""client":{"address":"198.18.1.10","port":54103,"netns":{"inode":4026532178},"user":{"id":10001},"#,
            r#""attribution":{"level":"namespace","evidence":"namespace","reason":"gone_before_lookup"}},"#,
            r#""server":{"address":"198.18.1.13","port":81,"attribution":{"level":"none","reason":"closed_port"}}}"#,
            "\n"
        );
        assert_eq!(line(&samples::refused_and_gone()), expected);
    }

    #[test]
    fn the_cluster_s_names_are_in_k8s_and_evidence_stays_as_it_is() {
        let line = line(&samples::to_the_cluster());
        let expected = concat!(
            r#""server":{"address":"2001:db8::13","port":443,"#,
            r#""k8s":{"namespace":{"name":"shop"},"pod":{"uid":"33","name":"db-1"},"#,
            r#""service":{"name":"db","namespace":"shop"}},"attribution":{"level":"none","reason":"remote"}}"#,
        );
        assert!(line.contains(expected), "{line}");
    }

    #[test]
    fn every_sample_is_valid_and_the_schema_tells_good_from_bad() {
        let validator = jsonschema::draft202012::new(&schema()).unwrap();
        for record in samples::all() {
            check_valid(&validator, &line(&record)).unwrap();
        }
        let good = line(&samples::between_two_processes());
        let check_bad = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            assert!(check_valid(&validator, &good.replacen(from, to, 1)).is_err(), "{to}");
        };
        check_bad(r#""schema_version":1,"#, "");
        check_bad(r#""schema_version":1,"#, r#""schema_version":2,"#);
        check_bad(r#""event":"close""#, r#""event":"end""#);
        check_bad(r#""port":54102"#, r#""port":65536"#);
        check_bad(r#""user":{"id":10001}"#, r#""user":null"#);
        check_bad(r#""user":{"id":10001}"#, r#""user":{"id":"10001"}"#);
        check_bad(r#""evidence":"listener""#, r#""evidence":"guess""#);
        check_bad(r#","evidence":"listener""#, "");
        check_bad(r#""level":"process""#, r#""level":"none""#);
        check_bad(r#""rungs":["sockops"]"#, r#""rungs":["magic"]"#);
        check_bad(r#""name":"curl","#, r#""name":"curl","argv":[],"#);
        check_bad("03.623456789Z", "03Z");
    }

    #[test]
    fn what_the_server_is_called_says_how_it_is_known() {
        let validator = jsonschema::draft202012::new(&schema()).unwrap();
        let check = |names: &[(NameKind, &str)], expected: &str| {
            let mut record = samples::to_a_remote_server();
            record.names = names.iter().map(|(kind, name)| LearntName::new(*kind, name)).collect();
            record.rival_names = ["b.example".into()].into();
            let line = line(&record);
            assert!(line.contains(expected), "{line}");
            check_valid(&validator, &line).unwrap();
        };
        let dns = (NameKind::Dns, "a.example");
        check(&[dns], r#""domain":"a.example","domain_source":"dns","domain_rivals":["b.example"],"#);
        check(&[dns, (NameKind::Sni, "c.example")], r#""domain":"c.example","domain_source":"sni","#);
        check(&[(NameKind::Host, "h"), (NameKind::Sni, "s")], r#""domain":"h","domain_source":"host","#);
        check(&[], r#""port":443,"attribution""#);
    }

    #[test]
    fn the_schema_s_lists_are_those_of_the_core() {
        let schema = schema();
        let check = |definition: &str, names: &[&str]| {
            let listed = schema.pointer(&format!("/$defs/{definition}/enum")).and_then(Value::as_array);
            let listed: BTreeSet<_> = listed.unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            assert_eq!(listed, names.iter().copied().collect::<BTreeSet<_>>(), "{definition}");
        };
        check("event", &RecordEvent::ALL.map(RecordEvent::name));
        check("state", &ConnectionState::ALL.map(ConnectionState::name));
        check("role", &Role::ALL.map(Role::name));
        check("rung", &Rung::ALL.map(Rung::name));
        check("transport", &Transport::ALL.map(Transport::name));
        check("level", &Level::ALL.map(Level::name));
        check("evidence", &Evidence::ALL.map(Evidence::name));
        check("reason", &Reason::ALL.map(Reason::name));
        check("io_source", &IoSource::ALL.map(IoSource::name));
        check("domain_source", &NameKind::ALL.map(NameKind::name));
    }

    #[test]
    fn every_key_of_the_schema_says_what_it_is() {
        fn check(path: &str, part: &Value) {
            let Some(part) = part.as_object() else { return };
            for (name, key) in part.get("properties").and_then(Value::as_object).into_iter().flatten() {
                assert!(key.get("description").is_some_and(Value::is_string), "{path}.{name}");
                check(&format!("{path}.{name}"), key);
            }
            if part.contains_key("properties") {
                assert_eq!(part.get("additionalProperties"), Some(&Value::Bool(false)), "{path}");
            }
        }
        let schema = schema();
        check("", &schema);
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            check(name, definition);
        }
    }

    #[test]
    fn user_names_are_written_where_known() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/1/root/etc")).unwrap();
        let passwd = "tools.foo:x:10001:10001::/:/bin/sh\n";
        std::fs::write(root.path().join("proc/1/root/etc/passwd"), passwd).unwrap();
        let record = samples::between_two_processes();
        let names = UserNames::open(&root.path().join("proc"), Arc::default(), record.at);
        let mut out = Vec::new();
        JsonlSink::new(&mut out, names).write(&record, samples::clock()).unwrap();
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value.pointer("/client/user/name").and_then(Value::as_str), Some("tools.foo"));
        assert_eq!(value.pointer("/server/user/name"), None);
    }

    proptest! {
        #[test]
        fn any_process_name_makes_one_valid_line_without_control_bytes(comm in any::<[u8; 15]>()) {
            let validator = jsonschema::draft202012::new(&schema()).unwrap();
            let mut process = samples::process(1, "", 0);
            process.name = Comm::new(&comm);
            let mut record = samples::between_two_processes();
            record.client.attribution = Attribution::process(process, Evidence::Proc);
            let line = line(&record);
            prop_assert_eq!(line.matches(escape::is_unsafe).collect::<Vec<_>>(), ["\n"]);
            prop_assert_eq!(check_valid(&validator, &line), Ok(()));
        }
    }
}
