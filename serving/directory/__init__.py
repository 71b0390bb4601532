"""Who may do what: tenants, projects, keys, administrators and kill switches, with a history that
tells of every change. Kept in a store, read by every gateway, changed through the admin API."""
