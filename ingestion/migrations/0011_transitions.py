from django.db import migrations

# Code that is older than this may run beside it: it raises epochs and knows no `writer_epoch`.
PARTS = """
CREATE FUNCTION ingestion_part_transition() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    who CONSTANT text := format('part %s of run %s', NEW.number, NEW.run_id);
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.writer_epoch := NEW.epoch;
        RETURN NEW;
    END IF;
    IF NEW.epoch < OLD.epoch THEN
        RAISE EXCEPTION '%: its epoch cannot go back from % to %', who, OLD.epoch, NEW.epoch
        USING ERRCODE = 'check_violation', CONSTRAINT = 'ingestion_part_epoch_only_rises',
            HINT = 'Somebody else has taken the part over. Whoever wants it takes it up with a higher epoch.';
    END IF;
    IF NEW.state = 'running' AND OLD.state <> 'running' AND NEW.epoch = OLD.epoch THEN
        RAISE EXCEPTION '%: it is taken up by raising its epoch, which is still %', who, OLD.epoch
        USING ERRCODE = 'check_violation', CONSTRAINT = 'ingestion_part_taken_up_with_a_new_epoch',
            HINT = 'A process that was taken for dead may still advance it; only a higher epoch keeps it out.';
    END IF;
    IF OLD.state IN ('succeeded', 'failed', 'cancelled') AND NEW.state <> OLD.state AND NOT (
        OLD.state <> 'succeeded' AND NEW.state IN ('queued', 'waiting') AND NEW.epoch > OLD.epoch
    ) THEN
        RAISE EXCEPTION '%: it has ended (%) and cannot become %', who, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'ingestion_part_ended_stays_ended',
            HINT = 'A run that failed or was cancelled goes on with: manage.py resume RUN';
    END IF;
    IF NEW.epoch > OLD.epoch THEN
        NEW.writer_epoch := NEW.epoch;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER ingestion_part_born BEFORE INSERT ON ingestion_part
    FOR EACH ROW WHEN (NEW.epoch <> NEW.writer_epoch) EXECUTE FUNCTION ingestion_part_transition();
CREATE TRIGGER ingestion_part_transition BEFORE UPDATE OF state, epoch ON ingestion_part
    FOR EACH ROW WHEN (OLD.state <> NEW.state OR OLD.epoch <> NEW.epoch)
    EXECUTE FUNCTION ingestion_part_transition();
UPDATE ingestion_part SET writer_epoch = epoch;
"""
NO_PARTS = """
DROP TRIGGER ingestion_part_transition ON ingestion_part;
DROP TRIGGER ingestion_part_born ON ingestion_part;
DROP FUNCTION ingestion_part_transition();
"""

# From cancelled to another end: the row of a dry run is born cancelled, so that it never counts as active.
RUNS = """
CREATE FUNCTION ingestion_run_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state IN ('queued', 'running', 'waiting') AND NOT (
        OLD.state <> 'succeeded' AND NEW.state = 'queued' AND NEW.resumes = OLD.resumes + 1
    ) THEN
        RAISE EXCEPTION 'run %: it has ended (%) and cannot become % again', NEW.id, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'ingestion_run_ended_stays_ended',
            HINT = 'A run that failed or was cancelled goes on with: manage.py resume RUN';
    END IF;
    IF NEW.state IN ('succeeded', 'failed', 'cancelled') AND OLD.state <> 'cancelled' THEN
        RAISE EXCEPTION 'run %: it has ended as % and cannot end again as %', NEW.id, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'ingestion_run_ends_once';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER ingestion_run_transition BEFORE UPDATE OF state ON ingestion_run
    FOR EACH ROW WHEN (OLD.state IN ('succeeded', 'failed', 'cancelled') AND OLD.state <> NEW.state)
    EXECUTE FUNCTION ingestion_run_transition();
"""
NO_RUNS = """
DROP TRIGGER ingestion_run_transition ON ingestion_run;
DROP FUNCTION ingestion_run_transition();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0010_part_writer_epoch"),
    ]

    operations = [
        migrations.RunSQL(PARTS, NO_PARTS),
        migrations.RunSQL(RUNS, NO_RUNS),
    ]
