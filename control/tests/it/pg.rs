//! A throw-away PostgreSQL cluster, from the binaries of the machine.
//!
//! One cluster for the whole test binary, one database for each test. It listens on a Unix socket
//! in a private folder, and nowhere else. A shell stands between this process and the server: when
//! this process ends, however it ends, the shell's input ends, and it stops the server and removes
//! the folder.
//!
//! `initdb` refuses to run as root, so root becomes `postgres` (or `nobody`) for it. Tests never
//! work as the superuser: their databases belong to a plain role, `linecard_owner`.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// A running cluster.
pub(crate) struct Cluster {
    folder: PathBuf,
    databases: AtomicU32,
    /// The shell's input. Never written to: its end is the message.
    _lifeline: ChildStdin,
}

impl Cluster {
    /// The cluster that all tests of this process share; the first one to ask starts it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Makes an empty database and returns its address, for the plain role that owns it.
    pub(crate) async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut admin = self.admin("postgres").await;
        let create = format!("CREATE DATABASE {name} OWNER linecard_owner");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        self.address("linecard_owner", &name)
    }

    /// A superuser's connection, for what a test must see or break behind the store's back.
    pub(crate) async fn admin(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.address("admin", database)).await.unwrap()
    }

    /// Where the server's socket is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn address(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@localhost/{database}?host={}", self.folder.display())
    }

    fn start() -> Self {
        let tools = tools();
        let account = Account::for_server();
        let folder = tempfile::Builder::new().prefix("linecard-pg-").tempdir().unwrap().keep();
        account.give(&folder);
        let cluster = Self {
            _lifeline: serve(&tools, &account, &folder),
            folder,
            databases: AtomicU32::new(0),
        };
        cluster.create_owner();
        cluster
    }

    /// The owner may make roles, as a first start needs, and is nobody special otherwise.
    fn create_owner(&self) {
        let address = self.address("admin", "postgres");
        let create = async move {
            let mut admin = PgConnection::connect(&address).await.unwrap();
            let sql = "CREATE ROLE linecard_owner LOGIN CREATEROLE";
            sqlx::raw_sql(sql).execute(&mut admin).await.unwrap();
        };
        // On a thread and a runtime of its own: whoever asks first is inside its test's runtime.
        let run = move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(create);
        };
        std::thread::Builder::new().spawn(run).unwrap().join().unwrap();
    }
}

/// Lets the shell make the cluster's files and start the server, and waits until that is ready.
fn serve(tools: &Path, account: &Account, folder: &Path) -> ChildStdin {
    let mut shell = Command::new("sh");
    shell.args(["-c", KEEP_UNTIL_INPUT_ENDS, "sh"]).args(SETTINGS);
    shell.arg("-c").arg(format!("unix_socket_directories={}", folder.display()));
    shell.env("TOOLS", tools).env("FOLDER", folder).env("LC_ALL", "C");
    shell.current_dir(folder).process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut shell = account.run(&mut shell).spawn().unwrap();

    let mut log = BufReader::new(shell.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut seen = Vec::new();
    let is_ready = log.by_ref().any(|line| {
        let is_ready = line.contains("ready to accept connections");
        seen.push(line);
        is_ready
    });
    assert!(is_ready, "PostgreSQL did not start:\n{}", seen.join("\n"));
    let lifeline = shell.stdin.take().unwrap();
    // Somebody must go on reading, or the server would wait for it.
    let read_on = move || {
        log.for_each(drop);
        shell.wait().unwrap();
    };
    std::thread::Builder::new().spawn(read_on).unwrap();
    lifeline
}

/// Where `initdb` and `postgres` are: on the path, where `pg_config` says, or where Debian keeps
/// them.
fn tools() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(said) = Command::new("pg_config").arg("--bindir").output() {
        places.push(String::from_utf8_lossy(&said.stdout).trim().into());
    }
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    debian.sort();
    places.extend(debian.into_iter().rev());
    let found = places
        .into_iter()
        .find(|place| place.join("initdb").exists() && place.join("postgres").exists());
    found.expect(
        "these tests start their own PostgreSQL server and found none: \
         install the Debian package `postgresql` (apt-get install postgresql)",
    )
}

/// Who the server runs as.
struct Account(Option<(u32, u32)>);

impl Account {
    fn for_server() -> Self {
        let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        if !is_root {
            return Self(None);
        }
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
        let ids = |name: &str| {
            let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        let ids = ids("postgres").or_else(|| ids("nobody"));
        Self(Some(ids.expect("there is a user to run PostgreSQL as: postgres or nobody")))
    }

    fn give(&self, folder: &Path) {
        if let Some((user, group)) = self.0 {
            chown(folder, Some(user), Some(group)).unwrap();
        }
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    }

    fn run<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        match self.0 {
            Some((user, group)) => command.uid(user).gid(group),
            None => command,
        }
    }
}

/// `read` waits for the end of the input. The server is stopped without a checkpoint (its data is
/// worth nothing) and the folder goes with it. A server that has only just begun ignores QUIT, and
/// one that serves takes its time over TERM; so it gets both. Nobody reads what the shell says then.
const KEEP_UNTIL_INPUT_ENDS: &str = r#"
    trap '' PIPE
    "$TOOLS/initdb" --pgdata="$FOLDER/data" --no-sync --auth=trust --username=admin \
        --encoding=UTF8 --locale=C &&
    {
        "$TOOLS/postgres" -D "$FOLDER/data" "$@" &
        server=$!
        read -r _
        kill -TERM "$server"
        kill -QUIT "$server"
        wait "$server"
    }
    cd / && rm -rf "$FOLDER"
"#;

/// Durability costs time, and no test pulls this server's plug.
const SETTINGS: [&str; 12] = [
    "-c",
    "listen_addresses=",
    "-c",
    "fsync=off",
    "-c",
    "full_page_writes=off",
    "-c",
    "max_connections=300",
    "-c",
    "shared_buffers=32MB",
    "-c",
    "lc_messages=C",
];
