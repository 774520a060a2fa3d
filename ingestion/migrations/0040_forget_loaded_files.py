from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("ingestion", "0039_sourcefile_records")]

    operations = [
        migrations.AlterModelOptions(
            name="sourcefile",
            options={
                "ordering": ("feed", "name"),
                "permissions": (("forget_sourcefile", "Can forget loaded files"),),
                "verbose_name": "loaded file",
            },
        ),
    ]
