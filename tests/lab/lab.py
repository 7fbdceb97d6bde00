# SPDX-License-Identifier: Apache-2.0
"""A network of mail servers on one machine, cut off from every other network.

    with Lab() as lab:
        dns = Dns(lab)                  # a signed root and the zones below it
        gw = Godwit(lab, "gw", 10, ...)
        Postfix(lab, 20)

A host is a network, mount and process namespace that lives as long as one process, "the holder": when it
dies, which it does with us, everything in it is gone. Nothing has a name on the machine, so that runs in
parallel do not meet. Host N has the addresses 10.77.0.N and fd77::N.

Debian's mail servers exclude one another, so they are not installed: their packages are unpacked into a
cache folder and laid over /usr in the namespace of their host.
"""
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "live"))
from godwit import GODWIT, SLOW, wait_for  # noqa: E402
from nameserver import ask, find, missing_tools  # noqa: E402

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
NETWORK4, NETWORK6 = "10.77.0.", "fd77::"

PACKAGES = {    # with the libraries that a machine without them may lack
    "postfix": ["postfix", "libsasl2-2", "libnsl2"],
    "exim": ["exim4-base", "exim4-config", "exim4-daemon-light", "libidn12", "libgnutls-dane0", "libnsl2",
             "libpcre2-8-0"],
    "dovecot": ["dovecot-core", "dovecot-lmtpd", "libexttextcat-2.0-0", "libexttextcat-data", "liblua5.4-0",
                "libwrap0", "libstemmer0d", "libsodium23", "libtirpc3", "libunwind8"],
}
USERS = {"postfix": 950, "Debian-exim": 953, "vmail": 955, "dovecot": 956, "dovenull": 957}
GROUPS = {**USERS, "postdrop": 954}


class Unavailable(Exception):
    """Something that the lab needs cannot be had here: a reason to skip."""


def v4(n):
    return f"{NETWORK4}{n}"


def v6(n):
    return f"{NETWORK6}{n:x}"


def die_with_us():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*argv, **kw):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60 * SLOW, check=False, **kw)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))}: {done.returncode}\n{done.stdout}")
    return done.stdout


# ---- namespaces --------------------------------------------------------------------------------------

class Host:
    """Namespaces with one or more addresses on the lab's bridge."""

    def __init__(self, lab, name, *numbers):
        self.lab, self.name, self.numbers = lab, name, numbers
        self.holder = subprocess.Popen(["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                                        "sleep", "infinity"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, preexec_fn=die_with_us)
        self.pid = wait_for(self.child, 10, "namespaces")
        # the namespaces are there before the child is; /proc of its own comes last
        wait_for(lambda: self.comm() == "sleep", 10, "the holder")
        self.net = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        run(*self.enter("n"), "ip", "link", "set", "lo", "up")

    def comm(self):
        with contextlib.suppress(OSError):
            return pathlib.Path(f"/proc/{self.pid}/comm").read_text().strip()
        return ""

    def child(self):
        if self.holder.poll() is not None:
            raise Unavailable("namespaces cannot be made here")
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text()
            return int(text.split()[0]) if text.split() else None
        return None

    def enter(self, which="nmp"):
        flags = {"n": "--net", "m": "--mount", "p": "--pid"}
        return ["nsenter", f"--target={self.pid}", *[flags[w] for w in which], "--"]

    def run(self, *argv):
        return run(*self.enter(), *argv)

    def spawn(self, *argv, which="nmp", log=subprocess.DEVNULL, env=None):
        return subprocess.Popen([*self.enter(which), *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                preexec_fn=die_with_us, env=env)

    @contextlib.contextmanager
    def inside(self):
        """This thread makes its sockets in the host's network; they stay there."""
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            if LIBC.setns(self.net, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            yield self
        finally:
            LIBC.setns(outside, CLONE_NEWNET)
            os.close(outside)

    def plug_in(self, switch):
        """A cable to the bridge, and the addresses."""
        port = f"p{self.numbers[0]}"
        run(*switch.enter("n"), "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
        run(*switch.enter("n"), "ip", "link", "set", port, "master", "br0", "up")
        lines = "".join(f"addr add {v4(n)}/24 dev eth0\naddr add {v6(n)}/64 dev eth0 nodad\n" for n in self.numbers)
        subprocess.run([*self.enter("n"), "ip", "-batch", "-"], input=lines + "link set eth0 up\n", text=True, check=True)

    def close(self):
        os.close(self.net)
        self.holder.kill()
        self.holder.wait()


class Lab:
    """The bridge, the hosts on it, and a folder for their files."""

    def __init__(self):
        self.hosts, self.things, self.base = [], [], None

    def __enter__(self):
        missing = [t for t in ("ip", "unshare", "nsenter") if not find(t)] + missing_tools()
        if missing:
            raise Unavailable("not installed: " + " ".join(missing))
        if os.geteuid() != 0:
            raise Unavailable("only root can make networks and run other mail servers")
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="godwit-lab."))
        self.base.chmod(0o711)
        try:
            self.switch = Host(self, "switch", 0)
            self.hosts.append(self.switch)
            try:
                run(*self.switch.enter("n"), "ip", "link", "add", "br0", "type", "bridge")
            except AssertionError as e:
                raise Unavailable(f"no bridge can be made here: {e}") from None
            run(*self.switch.enter("n"), "ip", "link", "set", "br0", "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, value, trace):
        complaints = []
        for thing in reversed(self.things):
            try:
                thing.close()
            except Exception as e:      # the others are to be closed all the same
                complaints.append(e)
        for host in reversed(self.hosts):
            host.close()
        shutil.rmtree(self.base, ignore_errors=True)
        if complaints and kind is None:
            raise complaints[0]

    def host(self, name, *numbers):
        host = Host(self, name, *numbers)
        self.hosts.append(host)
        host.plug_in(self.switch)
        return host


# ---- certificates ---------------------------------------------------------------------------------------

class Certificates:
    """An authority "ca", and certificates of it or signed by themselves; their TLSA records."""

    def __init__(self, lab):
        self.dir = lab.base / "tls"
        self.dir.mkdir()
        self.dir.chmod(0o755)
        self.openssl("req", "-x509", *self.key("ca"), "-subj", "/CN=lab", "-days", "30", "-out", "ca.pem")

    def openssl(self, *args, text=True):
        return subprocess.run(["openssl", *args], cwd=self.dir, stdin=subprocess.DEVNULL, capture_output=True, text=text, check=True,
                              timeout=60).stdout

    @staticmethod
    def key(name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]

    def files(self, name):
        return str(self.dir / f"{name}.pem"), str(self.dir / f"{name}.key")

    def make(self, name, host, expired=False, own=False):
        san = ["-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=critical,CA:FALSE"]
        if own:
            self.openssl("req", "-x509", *self.key(name), "-subj", "/CN=own", "-days", "30", *san, "-out", f"{name}.pem")
        else:
            self.openssl("req", *self.key(name), "-subj", "/CN=leaf", *san, "-out", f"{name}.csr")
            dates = ["-days", "-1"] if expired else ["-days", "30"]
            self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", *dates,
                         "-copy_extensions", "copy", "-out", f"{name}.pem")
            with open(self.dir / f"{name}.pem", "a") as chain:
                chain.write((self.dir / "ca.pem").read_text())
        for path in self.files(name):
            os.chmod(path, 0o644)

    def tlsa(self, host, name, kind):
        """The record of a host relative to its zone, for the certificate `name`."""
        if kind[2] == "1":
            data = self.openssl("pkey", "-in", f"{name}.key", "-pubout", "-outform", "DER", text=False)
        else:
            data = self.openssl("x509", "-in", f"{name}.pem", "-outform", "DER", text=False)
        return f"_25._tcp.{host} TLSA {kind} {hashlib.sha256(data).hexdigest()}"


# ---- name server ---------------------------------------------------------------------------------------

SOA = "@ 3600 IN SOA ns.lab. admin.lab. 1 3600 600 86400 5\n@ IN NS ns.lab.\n"


class Dns:
    """NSD with a signed root: a resolver that has our trust anchor validates all of it."""

    def __init__(self, lab, zones, number=1):
        """zones: {name: (records, "signed" | "plain" | (from, to))}; the last is signed, then tampered with."""
        self.lab, self.number, self.address = lab, number, v4(number)
        self.host = lab.host("dns", number)
        self.dir = lab.base / "dns"
        self.dir.mkdir()
        self.dir.chmod(0o755)
        self.files = {}
        delegations = ""
        for name in sorted(zones, key=lambda n: -n.count(".")):
            records, how = zones[name]
            parent = max((z for z in zones if name.endswith("." + z)), key=len, default="")
            ds = self.zone(name, records, how)
            if parent:
                up, kind = zones[parent]
                zones[parent] = (f"{up}\n{name}. NS ns.lab.\n{ds}", kind)
            else:
                delegations += f"{name}. NS ns.lab.\n{ds}\n"
        self.anchor = self.dir / "anchor"
        self.anchor.write_text(self.zone("", delegations + f"ns.lab. A {v4(number)}\n", "signed"))
        self.anchor.chmod(0o644)
        self.start()
        lab.things.append(self)

    def tool(self, name, *args):
        return run(find(name), *args, cwd=self.dir)

    def zone(self, name, records, how):
        """Returns its DS records, or "" when it is not signed."""
        path = self.dir / ((name or "root") + ".zone")
        path.write_text(f"$ORIGIN {name}.\n$TTL 5\n{SOA}{records}\n")
        self.files[name] = path
        if how == "plain":
            return ""
        key = self.tool("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", name or ".").strip().splitlines()[-1]
        self.tool("ldns-signzone", path.name, key)
        path = self.files[name] = path.with_name(path.name + ".signed")
        if how != "signed":
            text = path.read_text()
            assert how[0] in text
            path.write_text(text.replace(*how))
        return self.tool("ldns-key2ds", "-n", "-2", key + ".key")

    def start(self):
        conf = self.dir / "nsd.conf"
        conf.write_text(
            f'server:\n  ip-address: {self.address}\n  server-count: 1\n  rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n'
            f'  username: ""\n  chroot: ""\n  zonesdir: "{self.dir}"\n  database: ""\n  pidfile: "{self.dir}/pid"\n'
            f'  logfile: "{self.dir}/log"\n  xfrdfile: "{self.dir}/xfrd"\n  zonelistfile: "{self.dir}/zones"\n'
            "remote-control:\n  control-enable: no\n" +
            "".join(f'zone:\n  name: "{n or "."}"\n  zonefile: "{p}"\n' for n, p in self.files.items()))
        self.process = self.host.spawn(find("nsd"), "-d", "-c", str(conf), which="n")
        def answers():
            with self.host.inside():
                return ask(self.address, 53, "lab")
        wait_for(answers, 20, "the name server")

    def resolver(self):
        """The block of a godwit's configuration."""
        # names of private addresses are not asked for without a stub of their own (RFC 6303)
        zones = "".join(f"stub {zone} {self.address}; " for zone in (".", "77.10.in-addr.arpa", "7.7.d.f.ip6.arpa"))
        return f'resolver {{ {zones}trust_anchor "{self.anchor}"; }}\n'

    def close(self):
        self.process.terminate()
        self.process.wait(10)


def greets(host, address, port):
    """Whether an SMTP server says 220 there."""
    with contextlib.suppress(OSError), host.inside(), socket.create_connection((address, port), 2) as s:
        s.settimeout(5)
        if s.recv(100).startswith(b"220"):
            s.sendall(b"QUIT\r\n")
            s.recv(100)
            return True
    return False


# ---- godwit --------------------------------------------------------------------------------------------

FAST = "connect 2s; greeting 3s; reply 3s; data_start 3s; data_send 3s; data_end 4s; retry_first 1s; retry_max 2s; "


class Godwit:
    def __init__(self, lab, dns, name, numbers, conf, times=FAST, log_level="info"):
        self.lab, self.name = lab, name
        self.host = lab.host(name, *numbers)
        self.address, self.address6 = v4(numbers[0]), v6(numbers[0])
        self.dir = lab.base / name
        self.dir.mkdir()
        self.dir.chmod(0o711)
        self.conf, self.log_path, self.process = self.dir / "godwit.conf", self.dir / "log", None
        self.conf.write_text(f'hostname mx.{name}.lab;\ndirectory "{self.dir}";\nsmtpd_processes 1;\nlog_level {log_level};\n'
                             f"listen smtp {{ address *:25; }}\ntimeouts {{ {times} }}\n{dns.resolver()}{conf}\n")
        lab.things.append(self)

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = self.host.spawn(GODWIT, "serve", "-c", str(self.conf), which="n", log=log)
        try:
            wait_for(self.ready, 30, f"godwit {self.name}")
        except BaseException:
            self.process.kill()
            self.process.wait()
            self.process = None
            raise
        return self

    def ready(self):
        assert self.process.poll() is None, self.log()
        return greets(self.host, self.address, 25)

    def cli(self, *args, check=True, **kw):
        done = subprocess.run([GODWIT, *args, "-c", str(self.conf)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60 * SLOW, check=False, **kw)
        assert not check or done.returncode == 0, f"godwit {args}: {done.stdout}{done.stderr}\n{self.log()[-4000:]}"
        return done

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def account(self, *addresses):
        self.cli("account", "add", *addresses)

    def messages(self, address):
        """Whole messages, oldest first."""
        local, domain = address.rsplit("@", 1)
        new = self.dir / "mail" / domain / local / "new"
        paths = sorted(new.iterdir(), key=lambda p: p.stat().st_mtime_ns) if new.is_dir() else []
        return [p.read_bytes() for p in paths]

    def queue(self, what=""):
        return json.loads(self.cli("queue", "list", *([what] if what else []), "--json").stdout)["rows"]

    def trace(self, what):
        return self.cli("trace", what).stdout

    def wait_trace(self, what, text, seconds=20):
        def there():
            got = self.cli("trace", what, check=False).stdout
            return got if text in got else None
        try:
            return wait_for(there, seconds, f"{text!r} in the trace of {what}")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.cli('trace', what, check=False).stdout}\n{self.log()[-3000:]}") from None

    def metric(self, name):
        total = 0
        for line in self.cli("metrics").stdout.splitlines():
            if line.startswith(name) and line[len(name)] in " {":
                total += float(line.rsplit(" ", 1)[1])
        return total

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30 * SLOW)
        status = self.process.returncode if self.process else 0
        self.process = None
        return status

    def close(self):
        try:
            status = self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert status == 0, f"godwit {self.name} ended with {status}\n{self.log()[-4000:]}"
        log = self.log()
        assert "process_restart" not in log, log[-6000:]


# ---- Debian's servers ------------------------------------------------------------------------------------

def cache():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME") or "/root", ".cache")
    return pathlib.Path(os.environ.get("GODWIT_LAB_CACHE") or os.path.join(home, "godwit-lab"))


def download(packages, folder):
    try:
        done = subprocess.run(["apt-get", "download", "-qq", *packages], cwd=folder, stdin=subprocess.DEVNULL, timeout=40,
                              capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable("apt-get download takes too long") from None
    if done.returncode != 0:
        raise Unavailable(f"apt-get download {' '.join(packages)}: {done.stderr.strip()[-300:]}")


def unpacked(peer):
    """The folder with the peer's packages; downloads them once."""
    root = cache() / "root" / peer
    root.parent.mkdir(parents=True, exist_ok=True)
    with open(cache() / (peer + ".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (root / ".complete").exists():
            return root
        if not find("apt-get") or not find("dpkg"):
            raise Unavailable("no apt-get to download other mail servers with")
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        debs = cache() / "debs"
        debs.mkdir(exist_ok=True)
        wanted = [package for package in PACKAGES[peer] if not list(debs.glob(package + "_*.deb"))]
        if wanted:
            download(wanted, debs)
        for package in PACKAGES[peer]:
            run("dpkg", "-x", str(next(debs.glob(package + "_*.deb"))), str(root))
        if (root / "lib").exists():     # /lib is /usr/lib
            shutil.copytree(root / "lib", root / "usr" / "lib", dirs_exist_ok=True, symlinks=True)
        (root / ".complete").touch()
    return root


MOUNTS = """set -e
mount -t overlay overlay -o lowerdir="$1/usr":/usr /usr
mount -t overlay overlay -o lowerdir="$2/etc:$1/etc:/etc" /etc
mount --bind "$2/spool" /var/spool
mount --bind "$2/lib" /var/lib
mount --bind "$2/run" /run
"""


class Peer:
    """A host with an unpacked server laid over /usr, and /etc, /var/spool, /var/lib, /run of its own."""

    def __init__(self, lab, peer, number, dns):
        self.lab, self.name, self.number, self.address = lab, peer, number, v4(number)
        root = unpacked(peer)
        self.dir = lab.base / peer
        for folder in ("etc", "spool", "lib", "run", "mail"):
            (self.dir / folder).mkdir(parents=True, exist_ok=True)
        self.dir.chmod(0o755)
        os.chown(self.dir / "mail", USERS["vmail"], USERS["vmail"])
        etc = self.dir / "etc"
        (etc / "passwd").write_text(pathlib.Path("/etc/passwd").read_text() + "".join(
            f"{name}:x:{n}:{n}::/var/empty:/bin/false\n" for name, n in USERS.items()))
        (etc / "group").write_text(pathlib.Path("/etc/group").read_text() + "".join(
            f"{name}:x:{n}:\n" for name, n in GROUPS.items()))
        (etc / "hosts").write_text("127.0.0.1 localhost\n")
        (etc / "resolv.conf").write_text(f"nameserver {dns.address}\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\nservices: files\n")
        (etc / "mailname").write_text(f"mx.{peer}.lab\n")
        self.configure(etc)
        self.host = lab.host(peer, number)
        try:
            self.host.run("sh", "-c", MOUNTS, "sh", str(root), str(self.dir))
        except AssertionError as e:
            raise Unavailable(f"no overlay can be mounted here: {e}") from None
        lab.things.append(self)
        self.start()

    def certificate(self):
        return dict(zip(("chain", "key"), self.lab.certificates.files(self.name)))

    def messages(self, user):
        new = self.dir / "mail" / user / "new"
        paths = sorted(new.iterdir(), key=lambda p: p.stat().st_mtime_ns) if new.is_dir() else []
        return [p.read_bytes() for p in paths]

    def log(self):
        return "".join(p.read_text(errors="replace") for p in sorted(self.dir.rglob("*log")) if p.is_file())[-6000:]

    def close(self):
        pass    # its processes end with the host


POSTFIX_MAIN = """compatibility_level = 3.6
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
shlib_directory = /usr/lib/postfix
queue_directory = /var/spool/postfix
data_directory = /var/lib/postfix
maillog_file = /var/lib/postfix/mail.log
myhostname = mx.postfix.lab
mydestination =
mynetworks = 10.77.0.30/32 10.77.0.10/32
inet_interfaces = all
inet_protocols = all
in_flow_delay = 0
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_client_connection_count_limit = 0
local_header_rewrite_clients =
transport_maps = inline:{ {exim.lab=smtp:[mx.gw.lab]} }
virtual_mailbox_domains = postfix.lab
virtual_mailbox_base = %(mail)s
virtual_mailbox_maps = inline:{ {bob@postfix.lab=bob/} {carol@postfix.lab=carol/} }
virtual_alias_maps = inline:{ {forward@postfix.lab=nobody@refuses.lab} }
virtual_uid_maps = static:955
virtual_gid_maps = static:955
virtual_destination_recipient_limit = 1
mailbox_size_limit = 0
virtual_mailbox_limit = 0
message_size_limit = 0
minimal_backoff_time = 2s
maximal_backoff_time = 4s
queue_run_delay = 2s
smtp_tls_security_level = none
smtpd_tls_security_level = may
smtpd_tls_chain_files = %(key)s, %(chain)s
smtpd_tls_received_header = yes
default_process_limit = 100
smtp_destination_concurrency_limit = 20
"""
POSTFIX_MASTER = """25 inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - 50 smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - 20 virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(Peer):
    """Has mailboxes bob and carol at postfix.lab; sends exim.lab through the godwit of the lab."""

    def __init__(self, lab, dns, number=20):
        super().__init__(lab, "postfix", number, dns)

    def configure(self, etc):
        (etc / "postfix").mkdir()
        (etc / "postfix" / "main.cf").write_text(POSTFIX_MAIN % {"mail": self.dir / "mail", **self.certificate()})
        (etc / "postfix" / "master.cf").write_text(POSTFIX_MASTER)
        (etc / "postfix" / "dynamicmaps.cf").touch()
        (self.dir / "spool" / "postfix").mkdir()
        (self.dir / "lib" / "postfix").mkdir()
        os.chown(self.dir / "lib" / "postfix", USERS["postfix"], USERS["postfix"])

    def start(self):
        # "postfix check" makes the folders of its queue; it also complains of what a package's installation would set
        self.host.run("sh", "-c", "/usr/sbin/postfix check >/run/check.log 2>&1; exec chown -R postfix:postdrop /var/spool/postfix/public "
                                  "/var/spool/postfix/maildrop")
        self.process = self.host.spawn("/usr/lib/postfix/sbin/master", "-c", "/etc/postfix", "-d")
        wait_for(lambda: greets(self.host, self.address, 25), 20, "Postfix")


EXIM = r"""primary_hostname = mx.exim.lab
daemon_smtp_ports = 25
tls_advertise_hosts = *
tls_certificate = %(chain)s
tls_privatekey = %(key)s
spool_directory = /var/spool/exim4
log_file_path = /var/spool/exim4/log/%%slog
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
smtp_accept_max_nonmail = 0
smtp_enforce_sync = true
host_lookup =
rfc1413_query_timeout = 0s
qualify_domain = exim.lab
message_size_limit = 100M
remote_max_parallel = 10
queue_run_max = 10
keep_environment =
timeout_frozen_after = 0s
local_from_check = false
acl_smtp_rcpt = acl_rcpt
message_logs = false
split_spool_directory = true
begin acl
acl_rcpt:
  accept hosts = 10.77.0.30 : 10.77.0.10
         verify = recipient
  accept domains = exim.lab
         verify = recipient
  deny message = relay not permitted
begin routers
own:
  driver = accept
  domains = exim.lab
  local_parts = lsearch;/etc/exim4/users
  transport = maildir
unknown:
  driver = redirect
  domains = exim.lab
  allow_fail
  data = :fail: no such user here
through_godwit:
  driver = manualroute
  domains = postfix.lab
  transport = remote
  route_list = * mx.gw.lab byname
others:
  driver = dnslookup
  transport = remote
  no_more
begin transports
remote:
  driver = smtp
  hosts_try_fastopen =
maildir:
  driver = appendfile
  directory = %(mail)s/$local_part_data
  maildir_format
  create_directory
  delivery_date_add
  envelope_to_add
  return_path_add
  user = 955
  group = 955
  mode = 0600
begin retry
* * F,1h,2s
begin rewrite
begin authenticators
"""


class Exim(Peer):
    """Has mailboxes ann and dora at exim.lab; sends postfix.lab through the godwit of the lab."""

    def __init__(self, lab, dns, number=21):
        super().__init__(lab, "exim", number, dns)

    def configure(self, etc):
        (etc / "exim4").mkdir()
        (etc / "exim4" / "exim4.conf").write_text(EXIM % {"mail": self.dir / "mail", **self.certificate()})
        (etc / "exim4" / "users").write_text("ann: ann\ndora: dora\nsink: sink\n")
        spool = self.dir / "spool" / "exim4"
        for folder in ("", "input", "msglog", "db", "log"):
            (spool / folder).mkdir()
            os.chown(spool / folder, USERS["Debian-exim"], USERS["Debian-exim"])

    def start(self):
        with open(self.dir / "exim.log", "ab") as log:
            self.process = self.host.spawn("/usr/sbin/exim4", "-bdf", "-q2s", log=log)
        wait_for(lambda: greets(self.host, self.address, 25), 20, "Exim")


DOVECOT = """protocols = lmtp
base_dir = /run/dovecot
log_path = /var/lib/dovecot.log
ssl = no
auth_mechanisms = plain
auth_failure_delay = 0 secs
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
mail_location = maildir:%(mail)s/%%n:INDEX=MEMORY
mail_uid = 955
mail_gid = 955
first_valid_uid = 955
protocol lmtp {
  postmaster_address = postmaster@dovecot.lab
}
passdb {
  driver = passwd-file
  args = /etc/dovecot/users
}
userdb {
  driver = passwd-file
  args = /etc/dovecot/users
}
service lmtp {
  inet_listener lmtp {
    port = 24
  }
  unix_listener %(dir)s/lmtp.sock {
    mode = 0666
  }
}
service auth {
  unix_listener %(dir)s/auth-client {
    mode = 0666
  }
  unix_listener %(dir)s/auth-userdb {
    mode = 0777
  }
}
"""
DOVECOT_PASSWORD = "correct horse"


class Dovecot(Peer):
    """LMTP at port 24 and at .socket, for eve and fay at tcp.dovecot.lab and unix.dovecot.lab."""

    def __init__(self, lab, dns, number=22):
        super().__init__(lab, "dovecot", number, dns)
        self.socket = self.dir / "lmtp.sock"

    def configure(self, etc):
        (etc / "dovecot").mkdir()
        (etc / "dovecot" / "dovecot.conf").write_text(DOVECOT % {"mail": self.dir / "mail", "dir": self.dir})
        (etc / "dovecot" / "users").write_text("".join(
            f"{u}@{d}.dovecot.lab:{{PLAIN}}{DOVECOT_PASSWORD}:955:955::{self.dir}/mail/{u}\n"
            for u in ("eve", "fay") for d in ("tcp", "unix", "users")))

    def start(self):
        with open(self.dir / "dovecot.out.log", "ab") as log:
            self.process = self.host.spawn("/usr/sbin/dovecot", "-F", "-c", "/etc/dovecot/dovecot.conf", log=log)
        wait_for(lambda: greets(self.host, self.address, 24), 20, "Dovecot")
