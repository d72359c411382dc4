-- Which licences what a tenant uses may have. '': the site's list; otherwise a JSON array, [] for no list at all.
ALTER TABLE tenants ADD COLUMN license_allow TEXT NOT NULL DEFAULT '' CHECK (license_allow = '' OR json_type(license_allow) = 'array');
ALTER TABLE tenants ADD COLUMN license_deny TEXT NOT NULL DEFAULT '' CHECK (license_deny = '' OR json_type(license_deny) = 'array');
