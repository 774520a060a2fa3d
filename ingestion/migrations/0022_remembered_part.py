from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0021_run_list_indexes"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="rememberedpages",
            name="ingestion_rememberedpages_first_unique",
        ),
        migrations.AddField(
            model_name="rememberedpages",
            name="part",
            field=models.PositiveIntegerField(default=1),
            preserve_default=False,
        ),
        migrations.AddConstraint(
            model_name="rememberedpages",
            constraint=models.UniqueConstraint(
                fields=("memory", "part", "first"), name="ingestion_rememberedpages_first_unique"
            ),
        ),
    ]
