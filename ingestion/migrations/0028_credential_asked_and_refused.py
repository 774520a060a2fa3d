from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0027_credential"),
    ]

    operations = [
        migrations.AddField(
            model_name="credential",
            name="asked_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="credential",
            name="refused_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
