from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0028_credential_asked_and_refused"),
    ]

    operations = [
        migrations.AddField(
            model_name="part",
            name="gave_turn",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
    ]
