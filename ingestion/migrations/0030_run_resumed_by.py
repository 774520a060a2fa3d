from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0029_part_gave_turn"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="resumed_by",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=150),
        ),
        migrations.AddField(
            model_name="run",
            name="resumed_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
