-- What the sample application adds once its rows are there. {embedding_index} is empty without pgvector.
-- Foreign keys in a circle: a user's last report, a report's author.
ALTER TABLE public.users ADD CONSTRAINT users_last_report_fkey
    FOREIGN KEY (last_report_id) REFERENCES public.reports (id) DEFERRABLE INITIALLY DEFERRED;

CREATE UNIQUE INDEX users_email_key ON public.users (lower(email));
CREATE INDEX reports_search_idx ON public.reports USING gin (search);
CREATE INDEX reports_author_idx ON public.reports (author_id, created_at DESC) INCLUDE (status);
CREATE INDEX reports_open_idx ON public.reports (created_at) WHERE status <> 'final';
CREATE INDEX notifications_unread_idx ON public.notifications (user_id) WHERE read_at IS NULL;
CREATE INDEX access_log_at_idx ON audit.access_log (at);
{embedding_index}

CREATE FUNCTION public.touch_report() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    -- Comments with 'quotes', $$ and ; are part of the body.
    NEW.updated_at := now();
    RETURN NEW;
END
$body$;
CREATE TRIGGER report_touched BEFORE UPDATE ON public.reports
    FOR EACH ROW EXECUTE FUNCTION public.touch_report();

-- Fires on INSERT and COPY: a restore that lets triggers run leaves notifications that never were.
CREATE FUNCTION public.announce_report() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO public.notifications (user_id, report_id, kind) VALUES (NEW.author_id, NEW.id, 'created');
    RETURN NULL;
END
$body$;
CREATE TRIGGER report_announced AFTER INSERT ON public.reports
    FOR EACH ROW EXECUTE FUNCTION public.announce_report();

CREATE FUNCTION public.open_reports(wanted integer) RETURNS bigint LANGUAGE sql STABLE
    BEGIN ATOMIC SELECT count(*) FROM public.reports WHERE author_id = wanted AND status <> 'final'; END;

CREATE VIEW public.report_overview AS
    SELECT r.id, r.accession, r.modality, r.status, u.full_name AS author, t.name AS template
    FROM public.reports r JOIN public.users u ON u.id = r.author_id LEFT JOIN public.templates t ON t.id = r.template_id;

CREATE MATERIALIZED VIEW public.reports_per_month AS
    SELECT date_trunc('month', created_at AT TIME ZONE 'UTC') AS month, modality, count(*) AS reports
    FROM public.reports GROUP BY 1, 2;
CREATE UNIQUE INDEX reports_per_month_key ON public.reports_per_month (month, modality);
CREATE MATERIALIZED VIEW public.busiest_months AS
    SELECT month, sum(reports) AS reports FROM public.reports_per_month GROUP BY month;

GRANT SELECT ON public.templates TO PUBLIC;
GRANT SELECT (id, full_name) ON public.users TO PUBLIC;
