//! The data workers allocate nothing for a packet: two devices in this process, an allocator that counts, and traffic of all
//! kinds. Nor does the watchdog before the first line of a report. Needs root. Without the test harness, so that the main
//! thread's namespace is the devices'.

mod stall;
#[allow(unsafe_code, reason = "unsafe calls are fenced in here")]
mod sys;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clockshim::SourceKind;
use engine::device::{Device, DeviceOptions};
use engine::settings::{AllowedIpChange, Control, InterfaceChange, PeerChange};
use engine::tuning::Tuning;
use nix::sched::{CloneFlags, setns, unshare};
use wireguard::key::PrivateKey;

#[global_allocator]
static ALLOCATOR: sys::Counting = sys::Counting;

/// What parking_lot allocates when a thread has to wait for a lock for the first time in its life: its own data, and
/// perhaps a larger table of waiters.
const LOCK_ALLOCATIONS: u64 = 4;

/// By the beginnings of their names.
static DATA_WORKERS: sys::Threads = [b"wg-tx", b"wg-rx/"];

const LIMIT: Duration = Duration::from_secs(30);

fn main() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root may have a namespace of its own");
    ip("link set lo up");
    for (offload, workers, combined) in [
        (true, 1, false),
        (true, 3, false),
        (false, 1, false),
        (true, 1, true),
    ] {
        let pair = Pair::start(offload, workers, combined);
        // A handshake, and what is made once.
        pair.traffic(1);
        sys::arm(&DATA_WORKERS, None);
        pair.traffic(10);
        let sys::Counts { count, bytes, .. } = sys::disarm();
        let packets = pair.packets();
        assert!(packets > 5000, "only {packets} packets went through");
        // Four workers' threads, or twelve: each may once meet another at a lock.
        let once = LOCK_ALLOCATIONS * 4 * workers as u64;
        assert!(
            count <= once,
            "{count} allocations of {bytes} bytes in all; offload {offload}, {workers} workers, combined {combined}, {packets} packets"
        );
        println!(
            "allocation: {count} for {packets} packets (offload {offload}, {workers} workers, combined {combined})"
        );
    }
    // Were nothing ever counted, this would have passed as well.
    sys::arm(&DATA_WORKERS, None);
    thread::Builder::new()
        .name("wg-tx/test".into())
        .spawn(|| drop(vec![1u8; 100]))
        .expect("a thread")
        .join()
        .expect("it does not panic");
    let counted = sys::disarm().count;
    assert!(counted >= 2, "the counting allocator does not count");
    stall::the_first_line_is_written_without_an_allocation();
}

fn options(name: &str) -> DeviceOptions {
    DeviceOptions {
        name: name.to_owned(),
        clock: SourceKind::Boottime,
        faults: Vec::new(),
        offload: true,
        workers: Some(1),
        clock_mode: None,
        clock_readers: 0,
        never_yield: false,
        watchdog: watchdog::Options::default(),
        tuning: Tuning::default(),
        tun_fd: None,
    }
}

/// One end: its interface is in a namespace of its own.
struct Host {
    device: Arc<Device>,
    inner: File,
    v4: &'static str,
    v6: &'static str,
}

struct Pair {
    a: Host,
    b: Host,
}

impl Pair {
    fn start(offload: bool, workers: usize, combined: bool) -> Self {
        let options = |name: &str| DeviceOptions {
            offload,
            workers: Some(workers),
            tuning: Tuning {
                combined: Some(combined),
                ..Tuning::default()
            },
            ..options(name)
        };
        let pair = Self {
            a: Host::start(options("alloc-a"), "10.9.0.1", "fd09::1"),
            b: Host::start(options("alloc-b"), "10.9.0.2", "fd09::2"),
        };
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        for (host, key) in [&pair.a, &pair.b].into_iter().zip(&keys) {
            let change = InterfaceChange {
                private_key: Some(Some(key.clone())),
                ..InterfaceChange::default()
            };
            host.device.change_interface(change).expect("a key");
        }
        for (host, other, key) in [(&pair.a, &pair.b, &keys[1]), (&pair.b, &pair.a, &keys[0])] {
            let port = other.device.snapshot().listen_port;
            let allowed = [format!("{}/32", other.v4), format!("{}/128", other.v6)];
            let change = PeerChange {
                endpoint: Some(SocketAddr::from(([127, 0, 0, 1], port))),
                allowed_ips: allowed
                    .iter()
                    .map(|net| AllowedIpChange {
                        net: net.parse().expect("a prefix"),
                        remove: false,
                    })
                    .collect(),
                ..PeerChange::new(key.public())
            };
            host.device.change_peer(change).expect("a peer");
        }
        pair
    }

    /// Streams both ways and datagrams, alone and in superpackets, over both families.
    fn traffic(&self, megabytes: usize) {
        let (a, b) = (&self.a, &self.b);
        thread::scope(|scope| {
            for (from, to, address) in [(a, b, b.v4), (b, a, a.v4), (a, b, b.v6), (b, a, a.v6)] {
                scope.spawn(move || stream(from, to, address, megabytes << 20));
                scope.spawn(move || datagrams(from, to, address, megabytes * 200));
            }
        });
    }

    fn packets(&self) -> u64 {
        let workers = [&self.a, &self.b].map(|host| host.device.status().workers);
        workers.iter().flatten().map(|worker| worker.packets).sum()
    }
}

impl Host {
    fn start(options: DeviceOptions, v4: &'static str, v6: &'static str) -> Self {
        let name = options.name.clone();
        let device = Device::start(options).expect("root may make interfaces");
        let inner = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may have a namespace");
            File::open("/proc/thread-self/ns/net").expect("a namespace")
        });
        let inner = inner.join().expect("it does not panic");
        let path = format!("/proc/{}/fd/{}", std::process::id(), inner.as_raw_fd());
        ip(&format!("link set {name} netns {path}"));
        let host = Self {
            device,
            inner,
            v4,
            v6,
        };
        host.inside(|| {
            ip(&format!("addr add {v4}/24 dev {name}"));
            ip(&format!("addr add {v6}/64 dev {name} nodad"));
            ip(&format!("link set {name} up"));
        });
        host
    }

    /// Runs `work` on a thread that lives in the interface's namespace.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.inner, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.device.stop();
    }
}

fn stream(from: &Host, to: &Host, address: &str, total: usize) {
    let listener = to.inside(|| TcpListener::bind((address, 0)).expect("an address of ours"));
    let to = listener.local_addr().expect("bound");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = from.inside(|| TcpStream::connect(to).expect("the tunnel is up"));
            stream.set_write_timeout(Some(LIMIT)).expect("a socket option");
            let bytes = vec![7; 100_000];
            let mut left = total;
            while left > 0 {
                let size = left.min(bytes.len());
                stream.write_all(&bytes[..size]).expect("somebody reads");
                left -= size;
            }
        });
        let (mut stream, _) = listener.accept().expect("somebody comes");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket option");
        let mut buffer = vec![0; 100_000];
        let mut received = 0;
        while received < total {
            let length = stream.read(&mut buffer).expect("data keeps coming");
            assert_ne!(length, 0, "cut off after {received} bytes");
            received += length;
        }
    });
}

/// Sends datagrams of all sizes, whoever hears them.
fn datagrams(from: &Host, to: &Host, address: &str, count: usize) {
    let receiver = to.inside(|| UdpSocket::bind((address, 0)).expect("an address of ours"));
    let any: IpAddr = if address.contains(':') {
        [0; 16].into()
    } else {
        [0; 4].into()
    };
    let sender = from.inside(|| UdpSocket::bind((any, 0)).expect("a UDP socket"));
    sender
        .connect(receiver.local_addr().expect("bound"))
        .expect("a route");
    for number in 0..count {
        let size = number * 7919 % 1300;
        // A superpacket of small datagrams now and then: the most messages that one read becomes.
        let segment = if number % 50 == 0 { 32 } else { 0 };
        sys::set_udp_segment(&sender, segment);
        let total = if segment > 0 { 64 * 32 } else { size };
        sender.send(&vec![3; total]).expect("the tunnel is up");
        if number % 20 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status();
    assert!(status.expect("ip, of iproute2").success(), "ip {arguments}");
}
