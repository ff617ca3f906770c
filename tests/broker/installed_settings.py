"""A properties file as public installers of the original product leave it on a host.

What the shipped file sets, with installers' changes; the other discovery forms and
databases stand there as comments.
"""

INSTALLED = r"""
# Session Manager Broker configuration
! written by an installer
session-manager-working-path = /var/lib/dcvsmbroker
# broker-java-home =
# enable-api-yaml = true
client-to-broker-connector-https-port = 8446
client-to-broker-connector-bind-host: 0.0.0.0
# client-to-broker-connector-key-store-file =
# client-to-broker-connector-key-store-pass =
agent-to-broker-connector-https-port = 8445
agent-to-broker-connector-bind-host   0.0.0.0
enable-gateway = true
gateway-to-broker-connector-https-port = 8447
gateway-to-broker-connector-bind-host = 0.0.0.0
# enable-tls-client-auth-gateway = true
# gateway-to-broker-connector-trust-store-file =
enable-authorization-server = true
enable-authorization = true
enable-agent-authorization = true
session-screenshot-max-width = 160
session-screenshot-max-height = 100
session-screenshot-format = png
create-sessions-queue-max-size = 1000
create-sessions-queue-max-time-seconds = 1800
# create-sessions-number-of-retries-on-failure = 2
autorun-file-arguments-max-size = 50
autorun-file-arguments-max-argument-length = 150
max-api-requests-per-second = 1000
enable-throttling-forwarded-for-header = false
broker-to-broker-port = 47100
cli-to-broker-port = 47200
broker-to-broker-bind-host = 0.0.0.0
broker-to-broker-discovery-port = 47500
broker-to-broker-discovery-addresses = \
    127.0.0.1:47500
# broker-to-broker-discovery-multicast-group = 127.0.0.1
# broker-to-broker-discovery-multicast-port = 47400
# broker-to-broker-discovery-AWS-region = us-east-1
# broker-to-broker-discovery-AWS-alb-target-group-arn = ...
broker-to-broker-distributed-memory-max-size-mb = 4096
# broker-to-broker-key-store-file =
broker-to-broker-connection-login = dcvsm-user
broker-to-broker-connection-pass = dcvsm-pass
enable-cloud-watch-metrics = false
# cloud-watch-region = us-east-1
metrics-fleet-name-dimension = default
enable-persistence = false
# persistence-db = dynamodb
# dynamodb-region = us-east-1
# dynamodb-table-rcu = 10
# dynamodb-table-wcu = 10
# dynamodb-table-name-prefix = DcvSm-
# jdbc-connection-url = jdbc:mysql://database.example:3306/broker?createDatabaseIfNotExist=true
connect-session-token-duration-minutes = 1440
delete-session-duration-hours = 0
seconds-before-deleting-unreachable-dcv-server = 1800
seconds-before-deleting-sessions-unreachable-server = 900
"""
