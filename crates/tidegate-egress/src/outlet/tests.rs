use std::collections::HashMap;

use tidegate_core::{InvocationId, Name};
use tokio::net::TcpListener;

use super::*;
use crate::dns::tests::question;

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl LogSink for Log {
    fn line(&self, _: InstanceId, _: LogStream, _: Option<InvocationId>, text: &[u8]) {
        self.0
            .lock()
            .push(String::from_utf8_lossy(text).into_owned());
    }
}

impl Log {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

struct Book(HashMap<&'static str, Vec<&'static str>>);

#[async_trait]
impl Resolve for Book {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if host.ends_with(".silent.org") {
            return std::future::pending().await;
        }
        let found = self.0.get(host).ok_or(io::ErrorKind::NotFound)?;
        Ok(found
            .iter()
            .map(|a| SocketAddr::new(a.parse().expect("an address"), port))
            .collect())
    }
}

/// Greets whoever comes, and keeps some of them.
#[derive(Default)]
struct One {
    keeps: bool,
    kept: Mutex<Vec<(TcpStream, Seat)>>,
}

impl Inside for One {
    fn knows(&self, caller: &FunctionKey, name: &str) -> bool {
        &*caller.name == "caller" && name == "other"
    }

    fn accept(&self, _: &FunctionKey, _: InstanceId, connection: TcpStream, seat: Seat) {
        let _ = connection.try_write(b"inside");
        if self.keeps {
            self.kept.lock().push((connection, seat));
        }
    }

    fn ports(&self) -> &[u16] {
        &[80]
    }
}

fn book() -> Arc<Book> {
    Arc::new(Book(
        [
            ("a.example.org", vec!["127.0.0.1", "::1"]),
            ("b.example.org", vec!["127.0.0.2"]),
            ("c.example.org", vec!["127.0.0.1"]),
            ("private.org", vec!["10.0.0.9"]),
            ("six.org", vec!["2606:4700::1111"]),
        ]
        .into(),
    ))
}

fn key(namespace: &str) -> FunctionKey {
    let name = |text: &str| Name::new(text).expect("a name");
    FunctionKey::new(&name(namespace), &name("caller"))
}

fn list(of: Lists, rules: &[&str]) -> Allowed {
    let rules = rules.iter().map(|r| r.parse().expect("a rule")).collect();
    Allowed { of, rules }
}

fn outlet(policy: Policy, rules: &[&str]) -> (Arc<dyn Outlet>, Arc<Log>) {
    let lists = match rules {
        [] => Vec::new(),
        rules => vec![list(Lists::Function, rules)],
    };
    let outlets = Outlets::with_resolver(policy, Arc::<One>::default(), book());
    open_one(&outlets, "default", lists)
}

fn open_one(
    outlets: &Outlets,
    namespace: &str,
    lists: Vec<Allowed>,
) -> (Arc<dyn Outlet>, Arc<Log>) {
    let log = Arc::new(Log::default());
    let outbound = outlets.of(key(namespace), lists);
    (outbound.open(InstanceId(7), log.clone()), log)
}

/// Loopback may be reached here, since nothing else is sure to be there.
fn open() -> Policy {
    Policy {
        networks: vec!["127.0.0.0/8".parse().expect("a network")],
        ..Policy::default()
    }
}

/// What comes back over a connection that was meant for this address.
async fn fetch(outlet: &Arc<dyn Outlet>, to: SocketAddr) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut inside = TcpStream::connect(listener.local_addr()?).await?;
    outlet.accept(listener.accept().await?.0, to);
    let mut text = String::new();
    inside.read_to_string(&mut text).await?;
    Ok(text)
}

/// Greets everyone.
async fn far(address: &str) -> SocketAddr {
    let listener = TcpListener::bind(address).await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.write_all(b"from afar").await;
        }
    });
    at
}

async fn ask(outlet: &Arc<dyn Outlet>, name: &str, kind: u16) -> (u8, Vec<Ipv4Addr>) {
    let answer = outlet
        .answer(&question(name, kind))
        .await
        .expect("an answer");
    let records = &answer[question(name, kind).len()..];
    let addresses = records
        .chunks(16)
        .map(|r| Ipv4Addr::new(r[12], r[13], r[14], r[15]))
        .collect();
    (answer[3] & 15, addresses)
}

#[tokio::test]
async fn what_may_be_reached_is_reached() {
    let (outlet, log) = outlet(open(), &[]);
    let far = far("127.0.0.1:0").await;
    assert_eq!(fetch(&outlet, far).await.unwrap(), "from afar");
    assert_eq!(
        ask(&outlet, "A.example.org", dns::A).await,
        (0, vec![Ipv4Addr::LOCALHOST])
    );
    assert_eq!(ask(&outlet, "a.example.org", dns::AAAA).await, (0, vec![]));
    assert_eq!(ask(&outlet, "six.org", dns::A).await, (0, vec![]));
    assert_eq!(ask(&outlet, "none.org", dns::A).await, (3, vec![]));
    assert_eq!(log.take(), [] as [&str; 0]);
}

#[tokio::test]
async fn what_the_operator_does_not_let_through_is_reset_and_told_once() {
    let (outlet, log) = outlet(Policy::default(), &[]);
    for (to, why) in [
        ("127.0.0.1:22", "this machine's loopback"),
        ("169.254.169.254:80", "a link-local address"),
        ("10.0.0.9:5432", "a private address"),
        ("0.0.0.0:80", "nobody's"),
    ] {
        for _ in 0..2 {
            let error = fetch(&outlet, to.parse().unwrap()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        let told = log.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with(&format!("network: refused {to}: ")) && told[0].contains(why),
            "{told:?}"
        );
    }
    assert_eq!(ask(&outlet, "private.org", dns::A).await, (3, vec![]));
    let told = log.take();
    assert!(
        told[0].contains("refused private.org: 10.0.0.9 is a private"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_list_is_matched_by_name_network_and_port() {
    let named = far("127.0.0.1:0").await;
    let rule = format!("*.example.org:{}", named.port());
    let (outlet, log) = outlet(open(), &[&rule, "127.0.0.3/32"]);
    // By address alone, it is nobody's name.
    fetch(&outlet, named).await.unwrap_err();
    assert!(log.take()[0].contains("no entry of the function's 'egress' allows it"));
    assert_eq!(ask(&outlet, "a.example.org", dns::A).await.0, 0);
    assert_eq!(fetch(&outlet, named).await.unwrap(), "from afar");
    let other = far("127.0.0.1:0").await;
    fetch(&outlet, other).await.unwrap_err();
    let told = log.take();
    assert!(
        told[0].contains(&format!(
            "refused a.example.org:{} (127.0.0.1)",
            other.port()
        )),
        "{told:?}"
    );
    let by_network = far("127.0.0.3:0").await;
    assert_eq!(fetch(&outlet, by_network).await.unwrap(), "from afar");
    // What it leads to is in no list.
    assert_eq!(ask(&outlet, "private.org", dns::A).await.0, 3);
    assert_eq!(log.take().len(), 1);
    // With names alone, others are not even asked for.
    let (outlet, log) = super::tests::outlet(open(), &["a.example.org"]);
    assert_eq!(ask(&outlet, "b.example.org", dns::A).await.0, 3);
    assert!(log.take()[0].contains("refused the name b.example.org"));
}

#[tokio::test]
async fn one_name_has_to_pass_every_list() {
    let far = far("127.0.0.1:0").await;
    let port = far.port();
    let entries = |first: u16, second: u16| {
        [
            format!("a.example.org:{first}"),
            format!("c.example.org:{second}"),
        ]
    };
    let lists = |of_function: [String; 2], of_namespace: [String; 2]| {
        vec![
            list(Lists::Function, &of_function.each_ref().map(String::as_str)),
            list(
                Lists::Namespace,
                &of_namespace.each_ref().map(String::as_str),
            ),
        ]
    };
    let outlets = Outlets::with_resolver(open(), Arc::<One>::default(), book());
    // Both are names of the address; the one list has the port with the one, the other with the other.
    let (outlet, log) = open_one(
        &outlets,
        "default",
        lists(entries(port, 1), entries(1, port)),
    );
    for name in ["a.example.org", "c.example.org"] {
        assert_eq!(ask(&outlet, name, dns::A).await.0, 0);
    }
    fetch(&outlet, far).await.unwrap_err();
    assert!(log.take()[0].contains("refused c.example.org"));
    let (outlet, _) = open_one(
        &outlets,
        "default",
        lists(entries(port, 1), entries(port, 2)),
    );
    for name in ["a.example.org", "c.example.org"] {
        assert_eq!(ask(&outlet, name, dns::A).await.0, 0);
    }
    assert_eq!(fetch(&outlet, far).await.unwrap(), "from afar");
}

#[tokio::test]
async fn what_is_taken_inside_counts_for_as_long_as_it_lasts() {
    let inside = Arc::new(One {
        keeps: true,
        ..One::default()
    });
    let outlets = Outlets(Arc::new(Shared {
        policy: Policy::default().into(),
        resolver: book(),
        servers: Servers::of_the_machine(),
        inside: inside.clone(),
        // One connection a namespace.
        shares: Shares::new(8),
    }));
    let (outlet, log) = open_one(&outlets, "default", Vec::new());
    let (other, _) = open_one(&outlets, "other", Vec::new());
    let at = SocketAddr::from((RESOLVER, 80));
    let connect = async |outlet: &Arc<dyn Outlet>| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut inside = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        outlet.accept(listener.accept().await.unwrap().0, at);
        let mut text = [0; 6];
        inside.read_exact(&mut text).await.map(|_| inside)
    };
    let first = connect(&outlet).await.unwrap();
    connect(&outlet).await.unwrap_err();
    assert!(log.take()[0].contains("a namespace"));
    connect(&other).await.unwrap();
    inside.kept.lock().clear();
    drop(first);
    connect(&outlet).await.unwrap();
}

#[tokio::test]
async fn names_that_nobody_answers_for_keep_others_from_nothing() {
    let outlets = Outlets::with_resolver(Policy::default(), Arc::<One>::default(), book());
    let mut asked = Vec::new();
    for n in 0..100 {
        let (outlet, _) = open_one(&outlets, "default", Vec::new());
        asked.push(tokio::spawn(async move {
            let name = format!("n{n}.silent.org");
            outlet.answer(&question(&name, dns::A)).await
        }));
    }
    let (other, _) = open_one(&outlets, "other", Vec::new());
    let answer = timeout(RESOLVE / 2, ask(&other, "none.org", dns::A)).await;
    assert_eq!(answer.expect("it is answered").0, 3);
    assert!(asked.iter().all(|task| !task.is_finished()));
}

#[tokio::test]
async fn zones_and_everything_are_not_asked_for() {
    let (outlet, _) = outlet(Policy::default(), &[]);
    for kind in [41, 251, 252, 255] {
        assert_eq!(ask(&outlet, "a.example.org", kind).await, (4, vec![]));
    }
}

#[tokio::test]
async fn the_platforms_names_lead_inside() {
    // Whatever the lists say.
    let (outlet, log) = outlet(Policy::default(), &["x.org"]);
    assert_eq!(ask(&outlet, "other", dns::A).await, (0, vec![RESOLVER]));
    assert_eq!(
        ask(&outlet, "localhost", dns::A).await,
        (0, vec![Ipv4Addr::LOCALHOST])
    );
    let at = |port| SocketAddr::from((RESOLVER, port));
    assert_eq!(fetch(&outlet, at(80)).await.unwrap(), "inside");
    fetch(&outlet, at(443)).await.unwrap_err();
    assert!(log.take()[0].contains("plain HTTP at port 80"));
}

#[tokio::test]
async fn names_are_asked_for_over_connections_too() {
    let (outlet, _) = outlet(Policy::default(), &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut inside = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    outlet.accept(listener.accept().await.unwrap().0, (RESOLVER, 53).into());
    let asked = question("other", dns::A);
    for _ in 0..2 {
        inside.write_u16(asked.len() as u16).await.unwrap();
        inside.write_all(&asked).await.unwrap();
        let mut answer = vec![0; usize::from(inside.read_u16().await.unwrap())];
        inside.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[answer.len() - 4..], RESOLVER.octets());
    }
}

#[tokio::test]
async fn connections_end_with_the_outlet() {
    let (outlet, _) = outlet(open(), &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut inside = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    outlet.accept(
        listener.accept().await.unwrap().0,
        far.local_addr().unwrap(),
    );
    let (mut reached, _) = far.accept().await.unwrap();
    drop(outlet);
    assert_eq!(reached.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(inside.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_code_takes_nothing_ends_too() {
    let (outlet, _) = outlet(open(), &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _inside = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    outlet.accept(
        listener.accept().await.unwrap().0,
        far.local_addr().unwrap(),
    );
    let (mut reached, _) = far.accept().await.unwrap();
    let endless = async { while reached.write_all(&[0; PIECE]).await.is_ok() {} };
    timeout(IDLE * 3, endless).await.expect("it ends");
}
