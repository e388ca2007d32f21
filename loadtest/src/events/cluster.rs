//! A throw-away PostgreSQL cluster from the binaries of the machine, that can be stopped and started
//! again. It listens on a Unix socket in a private folder, and nowhere else, and is as durable as
//! one that matters.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};

/// The cluster. Dropped, it is killed, and its folder removed.
pub(crate) struct Cluster {
    tools: PathBuf,
    folder: PathBuf,
    account: Option<(u32, u32)>,
    server: Option<Child>,
}

impl Cluster {
    /// Makes one and starts it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("linecard-events-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let account = account()?;
        if let Some((user, group)) = account {
            chown(&folder, Some(user), Some(group))?;
        }
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        let mut cluster = Self { tools: tools()?, folder, account, server: None };
        cluster.run("initdb", &["--auth=trust", "--username=linecard", "--encoding=UTF8"]).await?;
        cluster.begin().await?;
        cluster.run("createdb", &["-U", "linecard", "linecard"]).await?;
        Ok(cluster)
    }

    /// The address of the database.
    pub(crate) fn url(&self) -> String {
        format!("postgres://linecard@localhost/linecard?host={}", self.folder.display())
    }

    /// Starts the server and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<()> {
        let mut command = self.tool("postgres");
        command.args(["-c", "listen_addresses=", "-c", "max_connections=100"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.folder.display()));
        self.server = Some(command.spawn().context("starting postgres")?);
        for _ in 0..200 {
            let mut ask = self.tool("pg_isready");
            if ask.status().await?.success() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("PostgreSQL does not come up")
    }

    /// Stops the server at once, as a machine that is cut off.
    ///
    /// # Errors
    /// When it runs no more.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        self.run("pg_ctl", &["stop", "--mode=immediate", "--silent"]).await?;
        if let Some(mut server) = self.server.take() {
            server.wait().await?;
        }
        Ok(())
    }

    /// Runs a statement as the superuser.
    ///
    /// # Errors
    /// When the database refuses it.
    pub(crate) async fn execute(&self, sql: &str) -> anyhow::Result<()> {
        self.run("psql", &["-U", "linecard", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]).await
    }

    async fn run(&self, name: &str, args: &[&str]) -> anyhow::Result<()> {
        let status = self.tool(name).args(args).status().await?;
        if !status.success() {
            bail!("{name} ended with {status}");
        }
        Ok(())
    }

    /// A tool of PostgreSQL that knows where the cluster is.
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.tools.join(name));
        command.env("PGDATA", self.folder.join("data")).env("PGHOST", &self.folder);
        command.env("LC_ALL", "C").current_dir(&self.folder).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        become_account(command.as_std_mut(), self.account);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The server's own children end with it; nothing of it is worth a checkpoint.
        let mut stop = std::process::Command::new(self.tools.join("pg_ctl"));
        stop.args(["stop", "--mode=immediate", "--silent", "-D"]).arg(self.folder.join("data"));
        stop.stdout(Stdio::null()).stderr(Stdio::null());
        become_account(&mut stop, self.account);
        // Whatever it says, the folder is of no use any more.
        let _ = stop.status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// PostgreSQL refuses to run as root.
fn become_account(command: &mut std::process::Command, account: Option<(u32, u32)>) {
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
}

/// Whom the server runs as: `initdb` refuses root, so root becomes `postgres` or `nobody`.
fn account() -> anyhow::Result<Option<(u32, u32)>> {
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).map(Some).context("nobody to run PostgreSQL as")
}

/// Where PostgreSQL's programs are: on the path, or where Debian keeps them.
fn tools() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut debian: Vec<PathBuf> =
            versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).collect();
        debian.sort();
        places.extend(debian.into_iter().rev());
    }
    // Some machines have a few of them on the path, and all of them elsewhere.
    let all = ["initdb", "postgres", "pg_ctl", "pg_isready", "createdb", "psql"];
    let is_here = |place: &Path| all.iter().all(|tool| place.join(tool).exists());
    places
        .into_iter()
        .find(|place| is_here(place))
        .context("PostgreSQL is not installed (apt-get install postgresql)")
}
