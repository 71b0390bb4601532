-- Least privilege, to be run by the owner of the tables after the schema is made (0107). The roles
-- exist already, with their passwords: CREATE ROLE ballast_gateway LOGIN PASSWORD '...';
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO ballast_gateway, ballast_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO ballast_reader;
GRANT SELECT ON schema_versions TO ballast_gateway;
-- A gateway adds to the books and corrects its own rows; it never deletes one.
GRANT SELECT, INSERT, UPDATE ON attempts, requests, intents TO ballast_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON pending, positions TO ballast_gateway;
-- It leases slices of budgets, reports what it spent, and forgets periods long over.
GRANT SELECT, INSERT, UPDATE, DELETE ON budget_leases, budget_alerts, answer_lengths
    TO ballast_gateway;
-- It changes what administrators changed, and adds to their history, which nobody ever rewrites.
GRANT SELECT, INSERT, UPDATE, DELETE ON directory_documents TO ballast_gateway;
GRANT SELECT, INSERT ON directory_history TO ballast_gateway;
-- Who reads the books needs no key's HMAC.
REVOKE ALL ON directory_documents FROM ballast_reader;
-- Samples and complaints are judged, expire and are erased; texts are sealed, facts are not for all.
GRANT SELECT, INSERT, UPDATE, DELETE ON review_cases TO ballast_gateway;
REVOKE ALL ON review_cases FROM ballast_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON quality_runs, quality_found TO ballast_gateway;
-- Files and batches come, are worked on and go; what is in them is not for all.
GRANT SELECT, INSERT, UPDATE, DELETE ON batch_files, batch_pieces, batches, batch_lines, batch_home
    TO ballast_gateway;
REVOKE ALL ON batch_files, batch_pieces, batches, batch_lines, batch_home FROM ballast_reader;
-- Windows of plans begin, fill and go.
GRANT SELECT, INSERT, UPDATE, DELETE ON plan_windows TO ballast_gateway;
-- The audit's chain is only ever added to: nobody but its owner could rewrite it.
GRANT SELECT, INSERT ON audit_chain TO ballast_gateway;
-- Finance: entries are told and corrected; who trims old rows (`ballast ledger trim`) is the owner.
GRANT SELECT, INSERT, UPDATE, DELETE ON finance_entries, burns, grant_use, finance_marks, rollups,
    scores TO ballast_gateway;
-- Evaluations hold answers, votes hold who cast them.
GRANT SELECT, INSERT, UPDATE, DELETE ON evaluations, evaluation_votes TO ballast_gateway;
REVOKE ALL ON evaluations, evaluation_votes FROM ballast_reader;
