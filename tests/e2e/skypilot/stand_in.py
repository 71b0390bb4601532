"""A plugin of SkyPilot's API server: one cloud's address is ours, and nothing is set up over SSH on
machines that are none. Optimizer, provisioner, state and requests stay SkyPilot's own."""

import os

from sky import global_user_state, provision
from sky.provision import provisioner
from sky.provision.lambda_cloud import lambda_utils
from sky.server import plugins

lambda_utils.API_ENDPOINT = os.environ["CLOUD_URL"]


def _no_ssh(launched, name, yaml, provision_record, custom_resource, log_dir):
    config = global_user_state.get_cluster_yaml_dict(yaml)
    return provision.get_cluster_info(
        "lambda",
        provision_record.region,
        name.name_on_cloud,
        provider_config=config.get("provider"),
    )


provisioner.post_provision_runtime_setup = _no_ssh


class StandIn(plugins.BasePlugin):
    def install(self, extension_context):
        pass
