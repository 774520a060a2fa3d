from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0006_run_resumes"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="run",
            options={
                "ordering": ("-id",),
                "permissions": (("cancel_run", "Can cancel runs"), ("resume_run", "Can resume runs")),
            },
        ),
    ]
