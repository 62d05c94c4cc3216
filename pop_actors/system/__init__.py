"""The named actors of the daemon: status-writer, gateway, scheduler, jobs, watcher, api."""
