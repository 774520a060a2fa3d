from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0011_transitions"),
    ]

    operations = [
        migrations.AddConstraint(
            model_name="part",
            constraint=models.CheckConstraint(
                condition=models.Q(("writer_epoch", models.F("epoch"))), name="ingestion_part_written_in_its_epoch"
            ),
        ),
    ]
