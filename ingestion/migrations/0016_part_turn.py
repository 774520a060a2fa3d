from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0015_run_limit_and_parts_at_once"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="part", name="ingestion_part_waiting_has_a_time"),
        migrations.AddConstraint(
            model_name="part",
            constraint=models.CheckConstraint(
                condition=Q(("state", "waiting"), _negated=True)
                | Q(("next_attempt_at__isnull", False))
                | Q(("waiting_for", "its turn")),
                name="ingestion_part_waiting_has_a_time_or_turn",
            ),
        ),
        migrations.AddIndex(
            model_name="part",
            index=models.Index(
                condition=Q(("state__in", ("queued", "running", "waiting"))),
                fields=["run", "number"],
                name="ingestion_part_active_of_run",
            ),
        ),
    ]
