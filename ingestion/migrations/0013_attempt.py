import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0012_part_written_in_its_epoch"),
    ]

    operations = [
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "part",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="history",
                        to="ingestion.part",
                    ),
                ),
                ("epoch", models.BigIntegerField()),
                ("owner", models.CharField(max_length=200)),
                ("worker", models.CharField(blank=True, max_length=200)),
                (
                    "taken_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("ended_at", models.DateTimeField(editable=False, null=True)),
                (
                    "outcome",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("released", "slice over, given back"),
                            ("waiting", "failed, to be tried again"),
                            ("succeeded", "succeeded"),
                            ("failed", "failed"),
                            ("cancelled", "cancelled"),
                            ("lost", "its process is gone or did not renew its lease"),
                        ],
                        max_length=10,
                    ),
                ),
                ("detail", models.TextField(blank=True)),
            ],
            options={
                "ordering": ("-id",),
                "constraints": [
                    models.UniqueConstraint(fields=("part", "epoch"), name="ingestion_attempt_epoch_unique"),
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at", None)), fields=("part",), name="ingestion_attempt_one_open"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("ended_at", None), ("outcome", "")),
                            models.Q(
                                ("ended_at__isnull", False),
                                (
                                    "outcome__in",
                                    ["released", "waiting", "succeeded", "failed", "cancelled", "lost"],
                                ),
                            ),
                            _connector="OR",
                        ),
                        name="ingestion_attempt_outcome_when_ended",
                    ),
                ],
            },
        ),
    ]
