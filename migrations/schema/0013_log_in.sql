-- The brake on guessing passwords, which all processes share: how often one was tried, and from which
-- devices an account has been logged in to.

-- A row per e-mail address for which a log-in has failed of late, whether or not there is an account.
-- The address itself is not stored.
CREATE TABLE log_in_attempts (
    email_hash  bytea PRIMARY KEY,     -- SHA-256 of the address in lower case
    failures    integer NOT NULL,      -- since the last right password; the delay grows with them
    next_at     timestamptz NOT NULL,  -- when the next attempt may be made
    spent_until timestamptz NOT NULL   -- when all that were made are forgotten; each adds to it
);

-- Browsers that have shown the right password before. Each has attempts of its own, so that somebody
-- else's guesses do not keep the owner out.
CREATE TABLE devices (
    account_id  bigint NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    token_hash  bytea NOT NULL,
    used_at     timestamptz NOT NULL DEFAULT now(),
    spent_until timestamptz NOT NULL DEFAULT now(),  -- as above
    PRIMARY KEY (account_id, token_hash)
);
