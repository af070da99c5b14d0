"""Where archives lie: the backup folder on a local disk, and a remote folder on whatever is mounted there."""
